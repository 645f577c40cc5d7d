import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import type { CliContext } from '../context.ts';
import { mayDestroy } from '../support/ask.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { imageJson } from '../support/image-views.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images destroy img-y22uq       asks first when a person is there
  ingot images destroy --yes img-y22uq img-9vxqi

Its space comes back with the next ingot library gc.
`;

/** `ingot images destroy`. */
export function registerImagesDestroy(images: Command, context: CliContext): void {
  images
    .command('destroy')
    .description('destroy images for ever')
    .argument('<image...>', 'their ids')
    .option('-y, --yes', 'do not ask')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (ids, options) => {
      using client = openClient(context, options);
      for (const id of ids.map(imageIdOf)) {
        const image = await client.image(id);
        if (options.yes !== true && !(await mayDestroy(context, `${id} (${image.name})`))) {
          throw new IngotError('not-allowed', `${id} was kept`, { imageId: id });
        }
        const destroyed = await client.destroyImage(id);
        if (options.json === true)
          context.stdout.write(`${JSON.stringify(imageJson(destroyed))}\n`);
        else context.stderr.write(`Destroying image ${id}\n`);
      }
    });
}
