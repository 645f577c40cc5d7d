import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../../context.ts';
import { compressionOption } from './compression-option.ts';

type Register = (parent: Command, context: CliContext) => void;

/** Commands by their word; each is loaded when it is called, as those of the program are. */
type Commands = Readonly<Record<string, () => Promise<Register>>>;

const COMMANDS: Commands = {
  read: async () => (await import('./read.ts')).registerRead,
  validate: async () => (await import('./validate.ts')).registerValidate,
  sign: async () => (await import('./sign.ts')).registerSign,
  modify: async () => (await import('./modify.ts')).registerModify,
  cp: async () => (await import('./cp.ts')).registerCp,
  cat: async () => (await import('./cat.ts')).registerCat,
  install: async () => (await import('./install.ts')).registerInstall,
  rm: async () => (await import('./rm.ts')).registerRm,
  dump: async () => (await import('./dump.ts')).registerDump,
};

const WRITE_COMMANDS: Commands = {
  'rootfs-image': async () => (await import('./write-rootfs-image.ts')).registerWriteRootfsImage,
  'module-image': async () => (await import('./write-module-image.ts')).registerWriteModuleImage,
  'bootstrap-artifact': async () =>
    (await import('./write-bootstrap-artifact.ts')).registerWriteBootstrapArtifact,
};

/** The command that is called, or all of them when the word is none: for help and for guesses. */
function called(commands: Commands, word: string | undefined): (() => Promise<Register>)[] {
  const one = Object.hasOwn(commands, word ?? '') ? commands[word ?? ''] : undefined;
  return one === undefined ? Object.values(commands) : [one];
}

/**
 * `ingot artifact …`: what mender-artifact does.
 *
 * @param words what follows `artifact` on the command line
 */
export async function registerArtifact(
  program: Command,
  context: CliContext,
  words: readonly string[],
): Promise<void> {
  const artifact = program
    .command('artifact')
    .description('write, read, check, sign and change Mender Artifacts')
    .addOption(compressionOption().hideHelp()) as unknown as Command;
  const write = artifact.command('write').description('write an artifact') as Command;
  const isWrite = words[0] === 'write';
  const writing = called(WRITE_COMMANDS, isWrite ? words[1] : undefined);
  for (const load of Object.hasOwn(COMMANDS, words[0] ?? '') ? [] : writing) {
    (await load())(write, context);
  }
  for (const load of isWrite ? [] : called(COMMANDS, words[0])) (await load())(artifact, context);
}
