import { malformed } from '../metadata-reader.ts';
import type { BtrfsSuperblock } from './superblock.ts';

/** data, system, metadata, DUP; every other profile spreads over devices. */
const KNOWN_TYPES = 0x27n;
const CHUNK_HEADER_BYTES = 48;
const STRIPE_BYTES = 32;
/** Chunks have a gibibyte on large devices: 2^17 of them are 128 TiB. */
const MAX_CHUNKS = 2 ** 17;

interface Chunk {
  readonly logical: number;
  readonly lengthBytes: number;
  /** Where its copies lie on the device: one, or two for DUP. */
  readonly physical: readonly number[];
}

/** Translates logical addresses of a single-device btrfs into places on the device. */
export class ChunkMap {
  readonly #sb: BtrfsSuperblock;
  readonly #known = new Set<number>();
  #chunks: Chunk[] = [];
  #isSorted = true;

  constructor(sb: BtrfsSuperblock) {
    this.#sb = sb;
    this.#addSystemChunks();
  }

  /**
   * Adds a chunk item; one that is known already is skipped.
   *
   * @throws IngotError `filesystem-malformed` when it lies outside or its profile is not known
   */
  add(logical: number, item: Buffer): void {
    if (item.length < CHUNK_HEADER_BYTES) throw malformed(`a chunk item has ${item.length} bytes`);
    const lengthBytes = Number(item.readBigUInt64LE(0));
    const type = item.readBigUInt64LE(24);
    const stripes = item.readUInt16LE(44);
    if ((type & ~KNOWN_TYPES) !== 0n || stripes < 1 || stripes > 2) {
      throw malformed(`a chunk has profile 0x${type.toString(16)} and ${stripes} stripes`);
    }
    if (item.length < CHUNK_HEADER_BYTES + stripes * STRIPE_BYTES) {
      throw malformed(`a chunk item has ${item.length} bytes`);
    }
    const physical: number[] = [];
    for (let i = 0; i < stripes; i++) {
      const at = CHUNK_HEADER_BYTES + i * STRIPE_BYTES;
      const offset = Number(item.readBigUInt64LE(at + 8));
      if (item.readBigUInt64LE(at) !== this.#sb.deviceId) throw malformed('a chunk is elsewhere');
      if (lengthBytes <= 0 || offset + lengthBytes > this.#sb.deviceBytes) {
        throw malformed(`a chunk of ${lengthBytes} bytes lies at ${offset}`);
      }
      physical.push(offset);
    }
    if (this.#known.has(logical)) return;
    if (this.#chunks.length === MAX_CHUNKS) throw malformed('it has too many chunks');
    this.#known.add(logical);
    this.#chunks.push({ logical, lengthBytes, physical });
    this.#isSorted = false;
  }

  /**
   * Finds a run of bytes; it never crosses the end of a chunk.
   *
   * @returns where its copies start on the device
   * @throws IngotError `filesystem-malformed` when no chunk holds all of it
   */
  locate(logical: number, lengthBytes: number): number[] {
    this.#sort();
    let [low, high] = [0, this.#chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#chunks[middle]?.logical ?? 0) <= logical) low = middle + 1;
      else high = middle;
    }
    const chunk = this.#chunks[low - 1];
    if (chunk === undefined || logical + lengthBytes > chunk.logical + chunk.lengthBytes) {
      throw malformed(`no chunk holds ${lengthBytes} bytes at ${logical}`);
    }
    return chunk.physical.map((start) => start + logical - chunk.logical);
  }

  #sort(): void {
    if (this.#isSorted) return;
    this.#chunks = this.#chunks.toSorted((a, b) => a.logical - b.logical);
    this.#isSorted = true;
  }

  /** The superblock holds what is needed to find the chunk tree: a key, an item, and so on. */
  #addSystemChunks(): void {
    const bytes = this.#sb.systemChunks;
    for (let at = 0; at < bytes.length; ) {
      if (at + 17 + CHUNK_HEADER_BYTES > bytes.length) throw malformed('its first chunks are cut');
      const logical = Number(bytes.readBigUInt64LE(at + 9));
      const stripes = bytes.readUInt16LE(at + 17 + 44);
      const end = at + 17 + CHUNK_HEADER_BYTES + stripes * STRIPE_BYTES;
      this.add(logical, bytes.subarray(at + 17, end));
      at = end;
    }
  }
}
