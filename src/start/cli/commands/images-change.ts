import { type Command, InvalidArgumentError } from '@commander-js/extra-typings';
import type { Image } from '../../../keep/index.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { formatImage, imageJson } from '../support/image-views.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const UPDATE_EXAMPLES = `
Examples:
  ingot images update img-y22uq --name "web server" --description "before the upgrade"
  ingot images update img-y22uq --public true
`;

const LOCK_EXAMPLES = `
Example:
  ingot images lock img-y22uq          it cannot be destroyed until it is unlocked
`;

const UNLOCK_EXAMPLES = `
Example:
  ingot images unlock img-y22uq
`;

function yesOrNo(text: string): boolean {
  if (text === 'true' || text === 'yes') return true;
  if (text === 'false' || text === 'no') return false;
  throw new InvalidArgumentError('true or false.');
}

function show(context: CliContext, image: Image, isJson: boolean): void {
  context.stdout.write(
    isJson
      ? `${JSON.stringify(imageJson(image), null, 2)}\n`
      : formatImage(image, { isLong: false }),
  );
}

/** `ingot images update`, `lock` and `unlock`. */
export function registerImageChanges(images: Command, context: CliContext): void {
  images
    .command('update')
    .description('change what is said of an image')
    .argument('<image>', 'its id')
    .option('-n, --name <name>', 'its name')
    .option('-d, --description <text>', 'its description')
    .option('-a, --arch <arch>', 'its CPU architecture, such as x86_64')
    .option('-p, --public <yes>', 'whether every account may use it', yesOrNo)
    .option('--deprecated <yes>', 'whether it should not be used any more', yesOrNo)
    .option('--mode-compat <yes>', 'whether servers use emulated devices', yesOrNo)
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', UPDATE_EXAMPLES)
    .action(async (id, options) => {
      using client = openClient(context, options);
      const image = await client.updateImage(imageIdOf(id), {
        name: options.name,
        description: options.description,
        arch: options.arch,
        public: options.public,
        deprecated: options.deprecated,
        compatibility_mode: options.modeCompat,
      });
      show(context, image, options.json === true);
    });
  for (const [verb, isLocked, examples] of [
    ['lock', true, LOCK_EXAMPLES],
    ['unlock', false, UNLOCK_EXAMPLES],
  ] as const) {
    images
      .command(verb)
      .description(isLocked ? 'protect images from being destroyed' : 'end the protection')
      .argument('<image...>', 'their ids')
      .option('--json', 'as JSON')
      .option(...PROFILE_OPTION)
      .addHelpText('after', examples)
      .action(async (ids, options) => {
        using client = openClient(context, options);
        for (const id of ids) {
          const image = await client.setImageLocked(imageIdOf(id), isLocked);
          if (options.json === true) show(context, image, true);
          else context.stderr.write(`${isLocked ? 'Locked' : 'Unlocked'} ${image.id}\n`);
        }
      });
  }
}
