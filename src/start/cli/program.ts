import { Command } from '@commander-js/extra-typings';
import { registerArtifact } from './commands/artifact/artifact.ts';
import { registerCompletion } from './commands/completion.ts';
import { registerConfig } from './commands/config.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerImages } from './commands/images.ts';
import { registerJobs } from './commands/jobs.ts';
import { registerLibrary } from './commands/library.ts';
import { registerLogin } from './commands/login.ts';
import { registerServe } from './commands/serve.ts';
import { registerSnapshot } from './commands/snapshot.ts';
import { registerVersion } from './commands/version.ts';
import type { CliContext } from './context.ts';

/** Adds one command (or a family of them) to the program. One file each under `commands/`. */
type Register = (program: Command, context: CliContext) => void;

const COMMANDS: readonly Register[] = [
  registerArtifact,
  registerConfig,
  registerDoctor,
  registerImages,
  registerJobs,
  registerLibrary,
  registerLogin,
  registerServe,
  registerSnapshot,
  registerVersion,
];

/** Builds the command line of `ingot`. */
export function buildProgram(context: CliContext): Command {
  const program = new Command('ingot')
    .description('Turns a running machine into an image, and the image into many machines.')
    .showHelpAfterError('(ingot --help shows what there is)')
    .showSuggestionAfterError()
    // Options of a command may have names of the program's own, such as --version.
    .enablePositionalOptions()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
    })
    .exitOverride();
  for (const register of COMMANDS) register(program, context);
  registerCompletion(program, context);
  return program;
}
