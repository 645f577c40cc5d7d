import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../../context.ts';
import { registerCat } from './cat.ts';
import { compressionOption } from './compression-option.ts';
import { registerCp } from './cp.ts';
import { registerDump } from './dump.ts';
import { registerInstall } from './install.ts';
import { registerModify } from './modify.ts';
import { registerRead } from './read.ts';
import { registerRm } from './rm.ts';
import { registerSign } from './sign.ts';
import { registerValidate } from './validate.ts';
import { registerWriteBootstrapArtifact } from './write-bootstrap-artifact.ts';
import { registerWriteModuleImage } from './write-module-image.ts';
import { registerWriteRootfsImage } from './write-rootfs-image.ts';

/** `ingot artifact …`: what mender-artifact does. */
export function registerArtifact(program: Command, context: CliContext): void {
  const artifact = program
    .command('artifact')
    .description('write, read, check, sign and change Mender Artifacts')
    .addOption(compressionOption().hideHelp()) as unknown as Command;
  const write = artifact.command('write').description('write an artifact') as Command;
  registerWriteRootfsImage(write, context);
  registerWriteModuleImage(write, context);
  registerWriteBootstrapArtifact(write, context);
  registerRead(artifact, context);
  registerValidate(artifact, context);
  registerSign(artifact, context);
  registerModify(artifact, context);
  registerCp(artifact, context);
  registerCat(artifact, context);
  registerInstall(artifact, context);
  registerRm(artifact, context);
  registerDump(artifact, context);
}
