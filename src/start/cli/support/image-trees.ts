import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { FeedReader, type ImageTree, openImageTree, PlainChunks } from '../../../publish/index.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { HttpRestoreFeed } from '../../client/http-restore-feed.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf } from './daemon-access.ts';

/** Opens the files of an image of a daemon; a journal that was not replayed is said on stderr. */
export async function openTreeOfImage(
  context: CliContext,
  client: DaemonClient,
  { image, partition }: { readonly image: string; readonly partition: number | undefined },
): Promise<ImageTree> {
  const feed = await HttpRestoreFeed.open(client, imageIdOf(image));
  const { codec } = await openFastestCodec();
  const reader = new FeedReader(feed, new PlainChunks(feed, codec), context.signal);
  const opened = await openImageTree(reader, partition, context.signal);
  if (opened.tree.needsRecovery) {
    context.stderr.write(
      `${image}: the journal of its filesystem needs recovery; the newest changes may be missing\n`,
    );
  }
  return opened;
}
