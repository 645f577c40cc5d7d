import { type Command, InvalidArgumentError } from '@commander-js/extra-typings';
import { IngotError, isFailure } from '../../../base/index.ts';
import { decidePrune, type Image, type PruneDecision } from '../../../keep/index.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import type { CliContext } from '../context.ts';
import { ask } from '../support/ask.ts';
import { openClient } from '../support/daemon-access.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images prune --name 'web *' --keep-last 3 --dry-run       shows what would stay and why
  ingot images prune --name 'web *' --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --yes

All images whose name matches compete for the same places. An image stays when one rule keeps it;
locked images, images in use and those of other accounts always stay. Days without an image do not
count. Space comes back with the next ingot library gc.
`;

function countOption(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('a whole number.');
  return Number(text);
}

/** `ingot images prune`. */
export function registerImagesPrune(images: Command, context: CliContext): void {
  images
    .command('prune')
    .description('destroy old images by a policy')
    .requiredOption('-n, --name <glob>', "which images: * and ? stand for any text, '*' for all")
    .option('--keep-last <n>', 'keep the newest', countOption)
    .option('--keep-daily <n>', 'keep the newest of each of the last days', countOption)
    .option('--keep-weekly <n>', 'keep the newest of each of the last weeks', countOption)
    .option('--keep-monthly <n>', 'keep the newest of each of the last months', countOption)
    .option('--dry-run', 'only show what would be done')
    .option('-y, --yes', 'do not ask')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const { keepLast, keepDaily, keepWeekly, keepMonthly } = options;
      const rules = [keepLast, keepDaily, keepWeekly, keepMonthly];
      if (rules.every((places) => places === undefined || places === 0)) {
        throw new IngotError('request-invalid', 'no --keep rule is given: nothing would be kept');
      }
      using client = openClient(context, options);
      const series = await ownImages(client, globToRegExp(options.name));
      const policy = { keepLast, keepDaily, keepWeekly, keepMonthly };
      const decisions = decidePrune(series, policy);
      show(context, decisions, options.json === true);
      const doomed = decisions.filter(({ isKept }) => !isKept).map(({ image }) => image);
      if (options.dryRun === true || doomed.length === 0) return;
      if (options.yes !== true) await confirm(context, doomed.length);
      await destroyAll(context, client, doomed);
    });
}

/**
 * Lists the caller's own images with a matching name.
 *
 * Private images are seen by their owner alone, so they tell who the caller is; public images of
 * others take no part.
 */
async function ownImages(client: DaemonClient, name: RegExp): Promise<Image[]> {
  const found: Image[] = [];
  const ownAccounts = new Set<string>();
  for await (const image of client.images()) {
    if (!image.isPublic) ownAccounts.add(image.ownerId);
    if (name.test(image.name)) found.push(image);
  }
  return found.filter(({ ownerId }) => ownAccounts.has(ownerId));
}

/** Reads `*` and `?` as a shell does in names without folders. */
function globToRegExp(glob: string): RegExp {
  const source = glob
    .replaceAll(/[\\^$.+()[\]{}|]/g, '\\$&')
    .replaceAll('*', '[^]*')
    .replaceAll('?', '[^]');
  return new RegExp(`^${source}$`, 'u');
}

function show(context: CliContext, decisions: readonly PruneDecision[], isJson: boolean): void {
  if (isJson) {
    const rows = decisions.map(({ image, isKept, reasons }) => ({
      id: image.id,
      name: image.name,
      created_at: new Date(image.createdAt).toISOString(),
      keep: isKept,
      reasons,
    }));
    context.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    return;
  }
  for (const { image, isKept, reasons } of decisions) {
    const day = new Date(image.createdAt).toISOString().slice(0, 10);
    const what = isKept ? `keep    ${reasons.join(', ')}` : 'remove';
    context.stdout.write(`${image.id}  ${day}  ${image.name}  ${what}\n`);
  }
}

/** A script is taken at its word; a person at a terminal is asked. */
async function confirm(context: CliContext, count: number): Promise<void> {
  if (!('isTTY' in context.stdin) || context.stdin.isTTY !== true) return;
  const answer = await ask(context, `Destroy ${count} images for ever? [y/N] `);
  if (!/^y(es)?$/i.test(answer)) throw new IngotError('not-allowed', 'all images were kept');
}

async function destroyAll(
  context: CliContext,
  client: DaemonClient,
  doomed: readonly Image[],
): Promise<void> {
  for (const { id } of doomed) {
    try {
      await client.destroyImage(id);
      context.stderr.write(`Destroying image ${id}\n`);
    } catch (thrown) {
      // Locked, used or destroyed by somebody in the meantime: the others still go.
      if (!isFailure(thrown, 'image-in-use') && !isFailure(thrown, 'image-not-found')) throw thrown;
      context.stderr.write(`Kept ${id}: ${thrown.message}\n`);
    }
  }
}
