import { type Command, Option } from '@commander-js/extra-typings';
import type { Image } from '../../../keep/index.ts';
import type { CliContext } from '../context.ts';
import { formatTable, formatTabs } from '../support/brightbox-table.ts';
import { openClient } from '../support/daemon-access.ts';
import {
  IMAGE_COLUMNS,
  imageJson,
  inListOrder,
  LONG_IMAGE_COLUMNS,
} from '../support/image-views.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images list                    own images, also those that are being made, and public ones
  ingot images list --type snapshot    only what was captured from something that ran
  ingot images list --status failed    what an import could not make; images show --long says why
  ingot images list --json | jq -r '.[].id'
`;

/** The guide's list shows an image from the moment when its making begins. */
const LISTED = ['creating', 'available', 'deprecated'] as const;

/** `ingot images list`. */
export function registerImagesList(images: Command, context: CliContext): void {
  images
    .command('list')
    .description('list images')
    .option('-l, --long', 'more columns')
    .option('-s, --simple', 'a tab between fields, no headings')
    .addOption(
      new Option('--type <type>', 'only these').choices(['official', 'upload', 'snapshot']),
    )
    .addOption(
      new Option('--status <status>', 'only these; failed ones are shown by this alone').choices([
        'creating',
        'available',
        'deprecated',
        'failed',
      ]),
    )
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      const found: Image[] = [];
      const statuses = options.status === undefined ? LISTED : [options.status];
      for await (const image of client.images(statuses)) {
        const type = image.isOfficial ? 'official' : image.kind;
        if (options.type === undefined || options.type === type) found.push(image);
      }
      const rows = inListOrder(found);
      if (options.json === true) {
        context.stdout.write(`${JSON.stringify(rows.map(imageJson), null, 2)}\n`);
        return;
      }
      const columns = options.long === true ? LONG_IMAGE_COLUMNS : IMAGE_COLUMNS;
      context.stdout.write(
        options.simple === true
          ? formatTabs(columns, rows)
          : formatTable(columns, rows, terminalWidth(context)),
      );
    });
}

function terminalWidth({ stdout }: CliContext): number | undefined {
  return 'isTTY' in stdout && stdout.isTTY === true ? stdout.columns : undefined;
}
