import type { Command } from '@commander-js/extra-typings';
import { writeArtifact } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { chosenCompression, compressionOption, dataCoding } from './compression-option.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { runWrite } from './run-write.ts';
import { headerInfoOf, withWriteOptions } from './write-options.ts';

const EXAMPLES = `
Example:
  ingot artifact write bootstrap-artifact -n factory -c qemu -p rootfs-image.version:factory
`;

/** `ingot artifact write bootstrap-artifact`. */
export function registerWriteBootstrapArtifact(write: Command, context: CliContext): void {
  const bare = write
    .command('bootstrap-artifact')
    .description('write an artifact without a payload, which names what is installed')
    .addOption(compressionOption());
  withKeyOptions(withWriteOptions(bare), 'private key to sign with')
    .addHelpText('after', EXAMPLES)
    .action(async (options, command) => {
      const refuse = (words: string): never => command.error(`error: ${words}`);
      const info = headerInfoOf(options, null, refuse);
      if (options.version === 2) refuse('version 2 of the format has no bootstrap artifacts');
      const header = {
        version: options.version,
        info,
        payload: {
          typeInfo: {
            type: null,
            provides: options.provides ?? new Map(),
            depends: options.depends ?? new Map(),
            clearsProvides: options.clearsProvides ?? [],
          },
          metaData: undefined,
        },
        augment: undefined,
        scripts: [],
      };
      const coding = await dataCoding(chosenCompression(command));
      const signer = await openSigner(options);
      await runWrite(context, options, (target, run) =>
        writeArtifact({ ...run, ...coding, signer, payloads: [], header: () => header }, target),
      );
    });
}
