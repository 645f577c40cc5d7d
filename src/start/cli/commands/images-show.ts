import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { formatImage, imageJson } from '../support/image-views.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images show img-y22uq
  ingot images show img-y22uq --long   consistency, lineage, digest and sizes in bytes too
`;

/** `ingot images show`. */
export function registerImagesShow(images: Command, context: CliContext): void {
  images
    .command('show')
    .description('show all about an image')
    .argument('<image>', 'its id')
    .option('-l, --long', 'more fields')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      using client = openClient(context, options);
      const image = await client.image(imageIdOf(id));
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify(imageJson(image), null, 2)}\n`
          : formatImage(image, { isLong: options.long === true }),
      );
    });
}
