import type { Command } from '@commander-js/extra-typings';
import { formatBytes, formatDuration, IngotError, systemClock } from '../../../base/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { openChunkWorkers } from '../../../keep/adapters/thread-chunk-workers.ts';
import {
  type RestoreReport,
  type RestoreTarget,
  restoreImage,
  verifyTarget,
} from '../../../publish/index.ts';
import { lookUpDevice } from '../../../publish/restore/adapters/device-lookup.ts';
import { openRestoreTarget } from '../../../publish/restore/adapters/restore-target.ts';
import { HttpRestoreFeed } from '../../client/http-restore-feed.ts';
import type { CliContext } from '../context.ts';
import { ask } from '../support/ask.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images write img-y22uq /dev/sdb            a card or disk: what is on it is shown, then asked
  ingot images write --yes img-y22uq /dev/sdb2     a partition, without asking
  ingot images write img-y22uq disk.raw            a new, sparse file
  ingot images write --in-place img-y22uq disk.raw only what differs from what the file has
  ingot images write --verify-only img-y22uq /dev/sdb

A write that was stopped goes on where it was when it is called again. Nothing that is mounted or
otherwise in use is written to.
`;

/** `ingot images write`. */
export function registerImagesWrite(images: Command, context: CliContext): void {
  images
    .command('write')
    .description('write an image to a block device or file, and read it back')
    .argument('<image>', 'its id')
    .argument('<target>', 'a block device, or a file')
    .option('-y, --yes', 'do not ask')
    .option('--in-place', 'write over a file that is there instead of replacing it at the end')
    .option('--no-verify', 'do not read back what was written')
    .option('--verify-only', 'only compare the target with the image')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'the report as JSON on stdout')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (id, path, options) => {
      using client = openClient(context, options);
      const image = await client.image(imageIdOf(id));
      await using feed = await HttpRestoreFeed.open(client, image.id);
      const comparesOnly = options.verifyOnly === true;
      await using target = await openRestoreTarget(path, {
        sizeBytes: feed.sizeBytes,
        inPlace: options.inPlace === true,
        comparesOnly,
      });
      const what = `${image.id} (${image.name}, ${formatBytes(feed.sizeBytes)})`;
      if (!comparesOnly && options.yes !== true) await confirm(context, target, what);
      const startedAt = systemClock.monotonic();
      const { codec } = await openFastestCodec();
      await using workers = openChunkWorkers(codec.name);
      const report = await withProgress(context, 'write', async (onProgress) => {
        const call = { workers, signal: context.signal, onProgress };
        if (!comparesOnly) return restoreImage(feed, target, { ...call, verify: options.verify });
        await verifyTarget(feed, target, call);
        return verifiedOnly(feed.sizeBytes);
      });
      const elapsedMs = Math.round(systemClock.monotonic() - startedAt);
      if (options.json === true) {
        const facts = { image: image.id, target: path, ...report, elapsedMs };
        context.stdout.write(`${JSON.stringify(facts)}\n`);
      } else if (options.quiet !== true) {
        context.stderr.write(
          `${wordsOf(report, image.id, path)} in ${formatDuration(elapsedMs)}\n`,
        );
      }
    });
}

/** The progress is gone before anything else is said. */
async function withProgress<T>(
  context: CliContext,
  label: string,
  work: (onProgress: ReturnType<CliContext['progress']>['onProgress']) => Promise<T>,
): Promise<T> {
  using progress = context.progress(label);
  return await work(progress.onProgress);
}

function verifiedOnly(sizeBytes: number): RestoreReport {
  return {
    sizeBytes,
    writtenBytes: 0,
    zeroedBytes: 0,
    keptBytes: sizeBytes,
    verifiedBytes: sizeBytes,
  };
}

function wordsOf(report: RestoreReport, id: string, path: string): string {
  const { sizeBytes, writtenBytes, verifiedBytes } = report;
  const isSame = writtenBytes === 0;
  const done = isSame
    ? `${path} has the data of ${id} already`
    : `Wrote ${id} to ${path}: ${formatBytes(writtenBytes)} of ${formatBytes(sizeBytes)} differed`;
  return verifiedBytes > 0 ? `${done}; every byte was read back` : `${done}; not read back`;
}

/** A script is taken at its word; a person at a terminal is shown the device and asked. */
async function confirm(context: CliContext, target: RestoreTarget, what: string): Promise<void> {
  const { path, kind, sizeBytes } = target.facts;
  if (kind !== 'block-device') return;
  if (!('isTTY' in context.stdin) || context.stdin.isTTY !== true) return;
  const { model, isRemovable, partitions, contents } = await lookUpDevice(path);
  const facts = [
    `${path}: ${formatBytes(sizeBytes)}`,
    model,
    isRemovable ? 'removable' : undefined,
    partitions.length > 0 ? `partitions ${partitions.join(' ')}` : undefined,
    `holds ${contents ?? 'nothing that blkid knows'}`,
  ].filter((fact) => fact !== undefined);
  context.stderr.write(`${facts.join(', ')}\n`);
  const answer = await ask(context, `Overwrite it with ${what}? [y/N] `);
  if (/^y(es)?$/i.test(answer)) return;
  throw new IngotError('not-allowed', `${path} was left as it is`, { path });
}
