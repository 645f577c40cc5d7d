import { basename, join } from 'node:path';
import { type Command, InvalidArgumentError } from '@commander-js/extra-typings';
import { parseImagePlace } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { chosenOrOwnCompression } from './compression-option.ts';
import { changeInImage } from './edit-files.ts';
import { openSigner, withKeyOptions } from './key-options.ts';

const EXAMPLES = `
Examples:
  ingot artifact install -m 755 start.sh release-1.mender:/usr/bin/start.sh
  ingot artifact install -d release-1.mender:/opt/app
`;

/** Reads a mode; it is octal with and without a leading 0. */
function modeOption(text: string): number {
  if (!/^0?[0-7]{3,4}$/.test(text)) throw new InvalidArgumentError('octal, such as 644 or 0755.');
  return Number.parseInt(text, 8);
}

/** `ingot artifact install`. */
export function registerInstall(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('install')
    .description('install a file with a mode, or make a folder, in an artifact or image')
    .argument('<file-or-folder>', 'a file of this host; with -d the folder as IMAGE:PATH')
    .argument('[image:path]', 'where it goes')
    .option('-m, --mode <mode>', 'permission bits of the file, octal', modeOption)
    .option('-d, --directory', 'make a folder, and those above it')
    .option('--tmp <folder>', 'where the payload is unpacked');
  withKeyOptions(bare, 'private key to sign the changed artifact with')
    .addHelpText('after', EXAMPLES)
    .action(async (source, target, options, command) => {
      const refuse = (words: string): never => command.error(`error: ${words}`);
      const isFolder = options.directory === true;
      const place = parseImagePlace((isFolder ? source : target) ?? '');
      if (place === undefined) return refuse('the target has the form IMAGE:PATH');
      if (isFolder && target !== undefined) return refuse('-d takes one argument');
      // A folder as target takes the file under its own name.
      const goesTo =
        !isFolder && place.path.endsWith('/')
          ? { ...place, path: join(place.path, basename(source)) }
          : place;
      const { mode } = options;
      if (!isFolder && mode === undefined) return refuse('-m is required; cp keeps the mode');
      const signer = await openSigner(options);
      const compression = chosenOrOwnCompression(command);
      const setup = { context, signer, compression, tmp: options.tmp };
      await changeInImage(
        goesTo,
        (editor, path) =>
          isFolder
            ? editor.makeFolder(path)
            : editor.copyIn(source, path, { mode: mode ?? 0, userId: 0, groupId: 0 }),
        setup,
      );
    });
}
