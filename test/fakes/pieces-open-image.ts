import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { digestOf, IngotError } from '../../src/base/index.ts';
import { combineCrc32, crc32OfZeros, zeroSegmentsBytes } from '../../src/bytes/index.ts';
import type {
  OpenChunk,
  OpenEntry,
  OpenImage,
  OpenPage,
  SegmentCodec,
} from '../../src/keep/index.ts';

/** A piece of the disk: bytes of one chunk, or the length of a hole. */
export type DiskPiece = Buffer | number;

/** An open image in memory, made of given pieces, laid out as the library does it. */
export class PiecesOpenImage implements OpenImage {
  readonly image: OpenImage['image'];
  readonly codedTag: string;
  readonly pages: readonly OpenPage[];
  /** The store: what `location` points into. A test may corrupt it. */
  readonly store: Buffer;
  isDisposed = false;
  readsUnderWay = 0;
  readonly #entries: readonly (readonly OpenEntry[])[];
  readonly #pieces: readonly DiskPiece[];

  private constructor(
    entries: readonly (readonly OpenEntry[])[],
    { pieces, store }: { readonly pieces: readonly DiskPiece[]; readonly store: Buffer },
  ) {
    this.#entries = entries;
    this.#pieces = pieces;
    this.store = store;
    let plainStartBytes = 0;
    this.pages = entries.map((page) => {
      const made = pageOf(page, plainStartBytes);
      plainStartBytes += made.plainBytes;
      return made;
    });
    this.codedTag = createHash('sha256').update(store).digest('hex');
    this.image = {
      name: 'an image',
      description: '',
      kind: 'upload',
      arch: 'x86_64',
      ancestorId: undefined,
      compatibilityMode: false,
      id: 'img-aaaaa',
      ownerId: 'acc-aaaaa',
      status: 'available',
      isPublic: false,
      isOfficial: false,
      isLocked: false,
      createdAt: 0,
      virtualSizeBytes: plainStartBytes,
      gzipSizeBytes: 0,
      addedBytes: 0,
      plainDigest: undefined,
      capture: {
        consistency: 'none',
        freezeMs: 0,
        filesystem: undefined,
        source: 'memory',
        freeSpace: 'keep',
      },
    };
  }

  static async of(
    pieces: readonly DiskPiece[],
    { codec, pageEntries }: { readonly codec: SegmentCodec; readonly pageEntries: number },
  ): Promise<PiecesOpenImage> {
    const stored: Buffer[] = [];
    let offsetBytes = 0;
    const entries: OpenEntry[] = [];
    for (const piece of pieces) {
      if (typeof piece === 'number') {
        entries.push({ kind: 'hole', lengthBytes: piece });
        continue;
      }
      const coded = await codec.encode(piece);
      entries.push({
        kind: 'chunk',
        digest: digestOf(piece),
        lengthBytes: piece.byteLength,
        codedBytes: coded.byteLength,
        plainCrc32: crc32(piece),
        codedCrc32: crc32(coded),
        location: { packId: 'a', offsetBytes },
      });
      stored.push(coded);
      offsetBytes += coded.byteLength;
    }
    const pages: OpenEntry[][] = [];
    for (let at = 0; at < entries.length; at += pageEntries) {
      pages.push(entries.slice(at, at + pageEntries));
    }
    return new PiecesOpenImage(pages, { pieces, store: Buffer.concat(stored) });
  }

  /** The whole disk. */
  get plain(): Buffer {
    return Buffer.concat(
      this.#pieces.map((piece) => (typeof piece === 'number' ? Buffer.alloc(piece) : piece)),
    );
  }

  async page(index: number): Promise<readonly OpenEntry[]> {
    assert.ok(!this.isDisposed);
    const page = this.#entries[index];
    assert.ok(page !== undefined, `page ${index}`);
    return page;
  }

  async readCoded(chunks: readonly OpenChunk[], signal?: AbortSignal): Promise<Buffer[]> {
    assert.ok(!this.isDisposed);
    signal?.throwIfAborted();
    this.readsUnderWay += 1;
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    this.readsUnderWay -= 1;
    return chunks.map((chunk) => {
      const { offsetBytes } = chunk.location;
      const coded = this.store.subarray(offsetBytes, offsetBytes + chunk.codedBytes);
      if (crc32(coded) === chunk.codedCrc32) return coded;
      throw new IngotError('chunk-corrupt', `chunk ${chunk.digest} has another CRC-32`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isDisposed = true;
  }
}

function pageOf(entries: readonly OpenEntry[], plainStartBytes: number): OpenPage {
  let plainBytes = 0;
  let codedBytes = 0;
  let plainCrc32 = 0;
  for (const entry of entries) {
    const { lengthBytes } = entry;
    const isHole = entry.kind === 'hole';
    const crc = isHole ? crc32OfZeros(lengthBytes) : entry.plainCrc32;
    plainCrc32 = combineCrc32(plainCrc32, crc, lengthBytes);
    plainBytes += lengthBytes;
    codedBytes += isHole ? zeroSegmentsBytes(lengthBytes) : entry.codedBytes;
  }
  return { plainStartBytes, plainBytes, codedBytes, plainCrc32 };
}
