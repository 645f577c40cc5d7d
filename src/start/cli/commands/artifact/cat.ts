import { join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../../context.ts';
import { inTemporaryFolder, readInImage } from './edit-files.ts';
import { imagePlaceArgument } from './image-argument.ts';
import { openOutput } from './output-file.ts';
import { readFilePieces } from './payload-file.ts';

const EXAMPLE = `
Example:
  ingot artifact cat release-1.mender:/etc/mender/artifact_info
`;

/** `ingot artifact cat`. */
export function registerCat(artifact: Command, context: CliContext): void {
  artifact
    .command('cat')
    .description('print a file of an artifact or image')
    .argument(
      '<image:path>',
      'IMAGE.mender, .sdimg, .uefiimg or .img, and a path',
      imagePlaceArgument,
    )
    .addHelpText('after', EXAMPLE)
    .action(async (place) => {
      await inTemporaryFolder(undefined, async (folder) => {
        const copy = join(folder, 'file');
        const work = { context };
        await readInImage(place, (editor, path) => editor.copyOut(path, copy), work);
        // A terminal is fine here: people look at small files.
        await using target = await openOutput('-', context, { allowsTerminal: true });
        for await (const piece of readFilePieces(copy)) await target.write(piece);
      });
    });
}
