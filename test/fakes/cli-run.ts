import { PassThrough, Readable } from 'node:stream';
import { CommanderError } from '@commander-js/extra-typings';
import type { CliContext } from '../../src/start/cli/context.ts';
import { buildProgram } from '../../src/start/cli/program.ts';
import { EXIT_USAGE, endingOf } from '../../src/start/cli/support/failure-exit.ts';

/** How a command ended. */
interface CliEnd {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line of `ingot` in this process, with an environment of its own. */
export async function runCli(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  stdin = '',
): Promise<CliEnd> {
  const stdout = collect();
  const stderr = collect();
  const context: CliContext = {
    stdout: stdout.stream,
    stderr: stderr.stream,
    stdin: Readable.from([Buffer.from(stdin)]),
    env,
    signal: new AbortController().signal,
    progress: () => ({ onProgress: () => undefined, [Symbol.dispose]: () => undefined }),
    endedAsAsked: () => undefined,
  };
  let status = 0;
  try {
    await buildProgram(context).parseAsync(argv, { from: 'user' });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      status = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    } else {
      const ending = endingOf(thrown, false);
      status = ending.exitStatus;
      context.stderr.write(`ingot: ${ending.text}\n`);
    }
  }
  return { status, stdout: stdout.text(), stderr: stderr.text() };
}

function collect(): { stream: PassThrough; text: () => string } {
  const stream = new PassThrough();
  const parts: Buffer[] = [];
  stream.on('data', (bytes: Buffer) => parts.push(bytes));
  return { stream, text: () => Buffer.concat(parts).toString('utf8') };
}
