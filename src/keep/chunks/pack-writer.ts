import { randomBytes } from 'node:crypto';
import { type Digest, MIB } from '../../base/index.ts';
import {
  encodePackFooter,
  encodePackHeader,
  PACK_HEADER_BYTES,
  PACK_TARGET_BYTES,
  PACK_TARGET_ENTRIES,
  type PackEntry,
  pushJoined,
  type Segment,
} from '../../bytes/index.ts';
import type { Disk, DiskFile } from './disk.ts';

/** A pack that is durable and may be named by the index. */
export interface SealedPack {
  readonly packId: string;
  readonly sizeBytes: number;
  readonly entries: readonly PackEntry[];
}

const WRITE_BYTES = 2 * MIB;

/**
 * Appends segments to one pack; it is durable when it is sealed, not before.
 *
 * Calls must not overlap. Order of writes: docs/formats/pack.md.
 */
export class PackWriter {
  readonly #disk: Disk;
  readonly #targetBytes: number;
  #file: DiskFile | undefined;
  #packId = '';
  #entries: PackEntry[] = [];
  #digests = new Set<Digest>();
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #offsetBytes = 0;

  constructor(disk: Disk, options: { readonly targetBytes?: number } = {}) {
    this.#disk = disk;
    this.#targetBytes = options.targetBytes ?? PACK_TARGET_BYTES;
  }

  /** Whether this chunk was appended, until {@link forget}. */
  has(digest: Digest): boolean {
    return this.#digests.has(digest);
  }

  /** Whether the open pack has reached its size and should be sealed. */
  get isFull(): boolean {
    return this.#offsetBytes >= this.#targetBytes || this.#entries.length >= PACK_TARGET_ENTRIES;
  }

  /** @param segment its coded bytes must not change before the next {@link flush} */
  async append(segment: Segment): Promise<void> {
    if (this.#file === undefined) await this.#begin();
    this.#entries.push({
      digest: segment.digest,
      offsetBytes: this.#offsetBytes,
      codedBytes: segment.coded.length,
      plainBytes: segment.plainBytes,
      plainCrc32: segment.plainCrc32,
      codedCrc32: segment.codedCrc32,
    });
    this.#digests.add(segment.digest);
    pushJoined(this.#waiting, segment.coded);
    this.#waitingBytes += segment.coded.length;
    this.#offsetBytes += segment.coded.length;
    if (this.#waitingBytes >= WRITE_BYTES) await this.flush();
  }

  /** Hands to the file what is still waiting, so that a caller's buffers are free again. */
  async flush(): Promise<void> {
    const file = this.#file;
    if (file === undefined || this.#waiting.length === 0) return;
    const buffers = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await file.append(buffers);
  }

  /** @returns the pack, now durable under its final name, or undefined when nothing was appended */
  async seal(): Promise<SealedPack | undefined> {
    const file = this.#file;
    if (file === undefined) return undefined;
    const packId = this.#packId;
    await this.flush();
    await file.datasync();
    await file.append([encodePackFooter(packId, this.#entries)]);
    await file.datasync();
    const sizeBytes = file.sizeBytes;
    await file[Symbol.asyncDispose]();
    await this.#disk.rename(openPackPath(packId), packPath(packId));
    await this.#disk.syncFolder('packs');
    await this.#disk.syncFolder('incoming');
    this.#file = undefined;
    return { packId, sizeBytes, entries: this.#entries };
  }

  /** Lets go of what it knows of a sealed pack. */
  forget(): void {
    this.#entries = [];
    this.#digests.clear();
  }

  /** Gives up the open pack. */
  async abort(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    const path = openPackPath(this.#packId);
    this.#file = undefined;
    this.#waiting = [];
    await file[Symbol.asyncDispose]();
    await this.#disk.remove(path);
  }

  async #begin(): Promise<void> {
    this.#packId = randomBytes(16).toString('hex');
    this.#file = await this.#disk.create(openPackPath(this.#packId));
    this.#waiting = [encodePackHeader(this.#packId)];
    this.#waitingBytes = PACK_HEADER_BYTES;
    this.#offsetBytes = PACK_HEADER_BYTES;
  }
}

/** @returns where a sealed pack lies in the data directory */
export function packPath(packId: string): string {
  return `packs/${packId}.pack`;
}

function openPackPath(packId: string): string {
  return `incoming/${packId}.pack`;
}
