import { Command, type CommandUnknownOpts } from '@commander-js/extra-typings';
import type { CliContext } from './context.ts';
import { withTwoDashes } from './support/go-options.ts';

/** Adds one command (or a family of them) to the program. One file each under `commands/`. */
type Register = (
  program: Command,
  context: CliContext,
  words: readonly string[],
) => void | Promise<void>;

/**
 * The commands by their first word. Each is loaded when it is called: what a daemon or an artifact
 * needs is not read to show a version, and a command that freezes stays small.
 */
const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  artifact: async () => (await import('./commands/artifact/artifact.ts')).registerArtifact,
  clients: async () => (await import('./commands/clients.ts')).registerClients,
  config: async () => (await import('./commands/config.ts')).registerConfig,
  doctor: async () => (await import('./commands/doctor.ts')).registerDoctor,
  images: async () => (await import('./commands/images.ts')).registerImages,
  jobs: async () => (await import('./commands/jobs.ts')).registerJobs,
  library: async () => (await import('./commands/library.ts')).registerLibrary,
  links: async () => (await import('./commands/links.ts')).registerLinks,
  login: async () => (await import('./commands/login.ts')).registerLogin,
  serve: async () => (await import('./commands/serve.ts')).registerServe,
  snapshot: async () => (await import('./commands/snapshot.ts')).registerSnapshot,
  version: async () => (await import('./commands/version.ts')).registerVersion,
};

function bareProgram(context: CliContext): Command {
  return (
    new Command('ingot')
      .description('Turns a running machine into an image, and the image into many machines.')
      .showSuggestionAfterError()
      // Options of a command may have names of the program's own, such as --version.
      .enablePositionalOptions()
      .configureOutput({
        writeOut: (text) => context.stdout.write(text),
        writeErr: (text) => context.stderr.write(text),
      })
      .exitOverride()
  );
}

/**
 * Builds the command line of `ingot`.
 *
 * @param words what is called: only that command is loaded; all of them when it is none
 */
export async function buildProgram(
  context: CliContext,
  words: readonly string[] = [],
): Promise<Command> {
  const program = bareProgram(context);
  const [firstWord, ...rest] = words;
  const called = Object.hasOwn(COMMANDS, firstWord ?? '') ? COMMANDS[firstWord ?? ''] : undefined;
  if (called !== undefined) {
    await (await called())(program, context, rest);
    namesItsHelp(program, 'ingot');
    return program;
  }
  for (const load of Object.values(COMMANDS)) await (await load())(program, context, []);
  // It reads the commands of the program, so it comes last.
  const { registerCompletion } = await import('./commands/completion.ts');
  registerCompletion(program, context);
  namesItsHelp(program, 'ingot');
  return program;
}

/** Whoever calls a command wrongly is told where that very command is described. */
function namesItsHelp(command: CommandUnknownOpts, name: string): void {
  command.showHelpAfterError(`(${name} --help shows what there is)`);
  for (const one of command.commands) namesItsHelp(one, `${name} ${one.name()}`);
}

/**
 * Runs what a command line says.
 *
 * @param argv without the program's own name
 */
export async function runProgram(program: Command, argv: readonly string[]): Promise<void> {
  // mender-artifact takes its long options with one dash too.
  const words = argv[0] === 'artifact' ? withTwoDashes(program, argv) : argv;
  await program.parseAsync(words, { from: 'user' });
}
