import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { type Digest, digestOf, IngotError, MIB, newId } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import type {
  Image,
  ImageDescription,
  IngestSession,
  IngestSummary,
  IngestTarget,
  ManifestEntry,
  SegmentCodec,
} from '../../src/keep/index.ts';

/** An image as a memory target keeps it. */
export interface MemoryImage {
  readonly image: Image;
  readonly summary: IngestSummary;
  readonly entries: readonly ManifestEntry[];
}

/** Keeps images in memory and holds whoever ingests to the port's rules. */
export class MemoryIngestTarget implements IngestTarget {
  readonly chunks = new Map<Digest, Buffer>();
  readonly images: MemoryImage[] = [];
  /** Chunks in the order in which they were put. */
  readonly putOrder: Digest[] = [];
  /** Sessions that are neither committed nor aborted. */
  openSessions = 0;
  /** Called before each call of a session; throws to make it fail. */
  onCall: (call: 'have' | 'put' | 'commit') => void | Promise<void> = () => undefined;
  readonly #codec: SegmentCodec;

  constructor(codec: SegmentCodec) {
    this.#codec = codec;
  }

  async begin(description: ImageDescription): Promise<IngestSession> {
    this.openSessions += 1;
    let isOpen = true;
    const close = (): void => {
      if (isOpen) this.openSessions -= 1;
      isOpen = false;
    };
    const granted = new Set<Digest>();
    let putsUnderWay = 0;
    let lastPut: Promise<void> = Promise.resolve();
    return {
      have: async (digests) => {
        assert.ok(isOpen, 'have on a session that is over');
        assert.ok(digests.length <= 4096);
        await this.onCall('have');
        return digests.map((digest) => {
          const isKnown = this.chunks.has(digest);
          if (isKnown) granted.add(digest);
          return isKnown;
        });
      },
      put: async (segments) => {
        assert.ok(isOpen, 'put on a session that is over');
        assert.ok(putsUnderWay < 2, 'memory for two puts');
        putsUnderWay += 1;
        const before = lastPut;
        const over = Promise.withResolvers<void>();
        lastPut = over.promise;
        try {
          await before;
          await this.onCall('put');
          const codedBytes = segments.reduce((sum, { coded }) => sum + coded.byteLength, 0);
          assert.ok(codedBytes <= 16 * MIB, `${codedBytes} coded bytes in one put`);
          for (const segment of segments) await this.#store(segment, granted);
        } finally {
          putsUnderWay -= 1;
          over.resolve();
        }
      },
      commit: async (entries, summary) => {
        assert.ok(isOpen, 'commit on a session that is over');
        await this.onCall('commit');
        const all: ManifestEntry[] = [];
        for await (const group of entries) all.push(...group);
        const sizeBytes = all.reduce((sum, entry) => sum + entry.lengthBytes, 0);
        assert.equal(sizeBytes, summary.sizeBytes);
        for (const entry of all) {
          if (entry.kind === 'hole' || granted.has(entry.digest)) continue;
          throw new IngotError('chunk-missing', `chunk ${entry.digest} was not delivered`);
        }
        close();
        const image = imageOf(description, summary);
        this.images.push({ image, summary, entries: all });
        return image;
      },
      abort: async () => close(),
    };
  }

  /** @returns the whole plain disk of an image */
  plainOf({ entries }: MemoryImage): Buffer {
    return Buffer.concat(
      entries.map((entry) =>
        entry.kind === 'hole'
          ? Buffer.alloc(entry.lengthBytes)
          : (this.chunks.get(entry.digest) ?? Buffer.alloc(0)),
      ),
    );
  }

  async #store(segment: Segment, granted: Set<Digest>): Promise<void> {
    assert.equal(crc32(segment.coded), segment.codedCrc32);
    const plain = await this.#codec.decode(segment.coded, segment.plainBytes);
    assert.equal(crc32(plain), segment.plainCrc32);
    assert.equal(digestOf(plain), segment.digest);
    granted.add(segment.digest);
    this.chunks.set(segment.digest, plain);
    this.putOrder.push(segment.digest);
  }
}

function imageOf(description: ImageDescription, summary: IngestSummary): Image {
  return {
    ...description,
    id: newId('img'),
    ownerId: 'acc-aaaaa',
    status: 'available',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt: 0,
    virtualSizeBytes: summary.sizeBytes,
    gzipSizeBytes: 0,
    addedBytes: 0,
    plainDigest: undefined,
    capture: summary.capture,
  };
}
