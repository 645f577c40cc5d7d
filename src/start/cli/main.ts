import { existsSync } from 'node:fs';
import { CommanderError } from '@commander-js/extra-typings';
import { FROZEN_RECORDS } from '../../capture/freeze.ts';
import { argumentsCalledAs } from './called-as.ts';
import type { CliContext } from './context.ts';
import { buildProgram, runProgram } from './program.ts';
import { EXIT_CANCELLED, EXIT_USAGE, endingOf } from './support/failure-exit.ts';
import { progressDisplay } from './support/progress-bar.ts';

/** A reader that goes away (`ingot … | head`) ends the command quietly. */
function endQuietlyOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
}

/** Thaws what an earlier capture left frozen when it and its guard were both killed. */
async function thawLeftovers(): Promise<void> {
  // The folder is looked for here, so that nothing is loaded where there is nothing to do.
  if (process.getuid?.() !== 0 || !existsSync(FROZEN_RECORDS)) return;
  const { recoverFrozen } = await import('../../capture/adapters/frozen-record.ts');
  for (const mountPoint of recoverFrozen(FROZEN_RECORDS)) {
    process.stderr.write(`ingot: thawed ${mountPoint}, which a killed capture had left frozen\n`);
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const cancel = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => cancel.abort(new Error(`got ${signal}`)));
  }
  endQuietlyOnClosedPipe();
  let isEndedAsAsked = false;
  const context: CliContext = {
    stdout: process.stdout,
    stderr: process.stderr,
    stdin: process.stdin,
    env: process.env,
    signal: cancel.signal,
    progress: (label) =>
      progressDisplay(label, process.stderr, { quiet: argv.includes('--quiet') }),
    endedAsAsked: () => {
      isEndedAsAsked = true;
    },
  };
  try {
    await thawLeftovers();
    const program = await buildProgram(context, argv);
    await runProgram(program, argv);
    return cancel.signal.aborted && !isEndedAsAsked ? EXIT_CANCELLED : 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    const ending = endingOf(thrown, cancel.signal.aborted);
    process.stderr.write(`ingot: ${ending.text}\n`);
    if (argv.includes('--json')) process.stderr.write(`${JSON.stringify(ending.json)}\n`);
    return ending.exitStatus;
  }
}

process.exitCode = await main(
  argumentsCalledAs(process.env['INGOT_CALLED_AS'], process.argv.slice(2)),
);
