import { IngotError, MIB } from '../base/index.ts';
import type { SnapshotPass, SnapshotSource } from '../capture/index.ts';
import type { ArtifactPayload } from './artifact-data.ts';
import { inOrder } from './restore/in-order.ts';

const READ_BYTES = MIB;
/** Reads under way: a device behind ssh answers late. */
const READS_AT_ONCE = 4;
/** Given out for what a snapshot does not read; it is never written. */
const ZEROS = Buffer.alloc(MIB);

/** A stretch of the disk: read, or zeros. */
interface Stretch {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly isData: boolean;
}

async function* stretches(pass: SnapshotPass): AsyncGenerator<Stretch, void, undefined> {
  let at = 0;
  const cut = function* (end: number, isData: boolean): Generator<Stretch, void, undefined> {
    for (; at < end; at += READ_BYTES) {
      yield { offsetBytes: at, lengthBytes: Math.min(READ_BYTES, end - at), isData };
    }
    at = end;
  };
  for (const { offsetBytes, lengthBytes } of pass.extents) {
    yield* cut(offsetBytes, false);
    yield* cut(offsetBytes + lengthBytes, true);
  }
  yield* cut(pass.sizeBytes, false);
}

/**
 * Makes a snapshot the payload of an artifact: one frozen pass while the artifact is written.
 *
 * It can be read only once, so the artifact must be one that is written in one pass.
 *
 * @param source belongs to the caller
 */
export function snapshotPayload(source: SnapshotSource, name: string): ArtifactPayload {
  let isRead = false;
  return {
    name,
    mode: 0o644,
    isAugmented: false,
    sizeBytes: source.sizeBytes,
    async *open({ signal }) {
      if (isRead) {
        throw new IngotError('source-unsupported', 'a snapshot of a device can be read only once');
      }
      isRead = true;
      const pass = await source.pass('frozen');
      try {
        const read = async (stretch: Stretch): Promise<Buffer> => {
          signal?.throwIfAborted();
          const { offsetBytes, lengthBytes, isData } = stretch;
          if (!isData) return ZEROS.subarray(0, lengthBytes);
          const bytes = await pass.read(offsetBytes, lengthBytes);
          pass.freeze?.progressed();
          return bytes;
        };
        for await (const piece of inOrder(stretches(pass), read, { limit: READS_AT_ONCE })) {
          pass.freeze?.check();
          yield piece;
        }
        pass.freeze?.check();
      } finally {
        await pass.end();
      }
    },
  };
}
