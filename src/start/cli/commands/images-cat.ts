import type { Command } from '@commander-js/extra-typings';
import { parseImagePath, resolvePath } from '../../../publish/index.ts';
import type { CliContext } from '../context.ts';
import { openClient } from '../support/daemon-access.ts';
import { openTreeOfImage } from '../support/image-trees.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import { writeData } from '../support/write-data.ts';

const EXAMPLES = `
Examples:
  ingot images cat img-y22uq:/etc/os-release
  ingot images cat img-y22uq:2:/boot/config.txt > config.txt
  ingot images cat img-y22uq:/etc/fstab img-9vxqi:/etc/fstab

Links are followed inside the image. Filesystems ext2, ext3, ext4, XFS, btrfs and FAT can be read.
`;

/** `ingot images cat`. */
export function registerImagesCat(images: Command, context: CliContext): void {
  images
    .command('cat')
    .description('write files out of images to stdout')
    .argument('<image:path...>', 'IMAGE:PATH or IMAGE:PARTITION:PATH')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (texts, options) => {
      using client = openClient(context, options);
      for (const text of texts) {
        const where = parseImagePath(text);
        const { tree } = await openTreeOfImage(context, client, where);
        const file = await resolvePath(tree, where.path, { followsLast: true });
        // The pieces are shared with a cache that moves on while stdout is slow.
        for await (const piece of tree.readFile(file)) {
          await writeData(context, Buffer.from(piece));
        }
      }
    });
}
