import { restoreFeedContract } from '../../../test/contracts/restore-feed.ts';
import { MemoryBackend } from '../../../test/fakes/memory-backend.ts';
import { MemoryFeed } from '../../../test/fakes/memory-feed.ts';
import { OpenImageFeed } from './open-image-feed.ts';

restoreFeedContract('an image that the library holds open', async (disk) => {
  const backend = new MemoryBackend();
  const { id } = backend.add(disk);
  return new OpenImageFeed(await backend.library().open(id));
});

restoreFeedContract('memory', async (disk) => new MemoryFeed(disk));
