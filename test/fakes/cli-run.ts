import { Readable, Writable } from 'node:stream';
import { CommanderError } from '@commander-js/extra-typings';
import type { CliContext } from '../../src/start/cli/context.ts';
import { buildProgram, runProgram } from '../../src/start/cli/program.ts';
import { EXIT_USAGE, endingOf } from '../../src/start/cli/support/failure-exit.ts';

/** How a command ended. */
interface CliEnd {
  readonly status: number;
  readonly stdout: string;
  /** The same as bytes. */
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
}

/** Runs one command line of `ingot` in this process, with an environment of its own. */
export async function runCli(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  stdin: string | Uint8Array = '',
): Promise<CliEnd> {
  const stdout = collect();
  const stderr = collect();
  const context: CliContext = {
    stdout: stdout.stream,
    stderr: stderr.stream,
    stdin: Readable.from([Buffer.from(stdin as string)]),
    env,
    signal: new AbortController().signal,
    progress: () => ({ onProgress: () => undefined, [Symbol.dispose]: () => undefined }),
    endedAsAsked: () => undefined,
  };
  let status = 0;
  try {
    const program = await buildProgram(context, argv);
    await runProgram(program, argv);
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      status = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    } else {
      const ending = endingOf(thrown, false);
      status = ending.exitStatus;
      context.stderr.write(`ingot: ${ending.text}\n`);
    }
  }
  return {
    status,
    stdout: stdout.bytes().toString('utf8'),
    stdoutBytes: stdout.bytes(),
    stderr: stderr.bytes().toString('utf8'),
  };
}

function collect(): { stream: Writable; bytes: () => Buffer } {
  const parts: Buffer[] = [];
  const stream = new Writable({
    // A copy: whoever writes may use the memory again.
    write: (bytes: Buffer, _encoding, done) => {
      parts.push(Buffer.from(bytes));
      done();
    },
  });
  return { stream, bytes: () => Buffer.concat(parts) };
}
