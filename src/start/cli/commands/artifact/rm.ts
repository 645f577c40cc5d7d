import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../../context.ts';
import { chosenOrOwnCompression } from './compression-option.ts';
import { changeInImage } from './edit-files.ts';
import { imagePlaceArgument } from './image-argument.ts';
import { openSigner, withKeyOptions } from './key-options.ts';

const EXAMPLES = `
Examples:
  ingot artifact rm release-1.mender:/etc/motd
  ingot artifact rm -r card.sdimg:/var/log/app
`;

/** `ingot artifact rm`. */
export function registerRm(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('rm')
    .description('remove a file or folder from an artifact or image')
    .argument('<image:path>', 'what goes', imagePlaceArgument)
    .option('-r, --recursive', 'folders with all that is in them');
  withKeyOptions(bare, 'private key to sign the changed artifact with')
    .addHelpText('after', EXAMPLES)
    .action(async (place, options, command) => {
      const signer = await openSigner(options);
      const compression = chosenOrOwnCompression(command);
      await changeInImage(
        place,
        (editor, path) => editor.remove(path, options.recursive === true),
        { context, signer, compression },
      );
    });
}
