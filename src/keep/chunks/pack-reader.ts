import { IngotError, isFailure } from '../../base/index.ts';
import {
  checkPackHeader,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  type PackEntry,
  parsePackFooter,
  parsePackTrailer,
} from '../../bytes/index.ts';
import type { Disk, DiskFile } from './disk.ts';
import { packPath } from './pack-writer.ts';

/**
 * Reads and checks the index of a sealed pack.
 *
 * @returns its entries in file order, or undefined when there is no such pack
 * @throws IngotError `pack-corrupt`, `version-unknown`
 */
export async function readPackIndex(disk: Disk, packId: string): Promise<PackIndex | undefined> {
  await using file = await disk.open(packPath(packId));
  if (file === undefined) return undefined;
  const sizeBytes = file.sizeBytes;
  if (sizeBytes < PACK_HEADER_BYTES + PACK_TRAILER_BYTES) {
    throw new IngotError('pack-corrupt', `pack ${packId}: ${sizeBytes} bytes are too few`, {
      pack: packId,
    });
  }
  const header = await file.read(0, PACK_HEADER_BYTES);
  checkPackHeader(header, packId);
  const trailer = await file.read(sizeBytes - PACK_TRAILER_BYTES, PACK_TRAILER_BYTES);
  const { footerOffsetBytes } = parsePackTrailer(trailer, packId, sizeBytes);
  const footer = await file.read(footerOffsetBytes, sizeBytes - footerOffsetBytes);
  return { sizeBytes, entries: parsePackFooter(header, footer, packId, footerOffsetBytes) };
}

/** What a sealed pack says of itself. */
export interface PackIndex {
  readonly sizeBytes: number;
  readonly entries: PackEntry[];
}

/**
 * Keeps the packs that were read last open, so that a download does not open one file per read.
 *
 * A pack that is removed meanwhile stays readable through its open file.
 */
export class PackFiles implements AsyncDisposable {
  readonly #disk: Disk;
  readonly #most: number;
  /** In order of use: the first is the oldest. */
  readonly #open = new Map<string, OpenPack>();

  constructor(disk: Disk, most = 64) {
    this.#disk = disk;
    this.#most = most;
  }

  /**
   * @param memory where the bytes may be put, if it is long enough
   * @returns the bytes, fewer at the end of the file; undefined when there is no such pack, or the
   *   disk cannot read them: a bad sector is damage of what lies there, not the end of the library
   */
  async read(
    packId: string,
    offsetBytes: number,
    lengthBytes: number,
    memory?: Buffer,
  ): Promise<Buffer | undefined> {
    const pack = this.#take(packId);
    pack.users += 1;
    try {
      const file = await pack.file;
      if (file === undefined) {
        if (this.#open.get(packId) === pack) this.#open.delete(packId);
        return undefined;
      }
      return await file.read(offsetBytes, lengthBytes, memory);
    } catch (error) {
      if (isFailure(error, 'library-unusable') && error.facts['errno'] === 'EIO') return undefined;
      throw error;
    } finally {
      pack.users -= 1;
      if (pack.isDropped && pack.users === 0) await close(pack);
    }
  }

  /** Closes the file of a pack that is to go, once nobody reads from it. */
  async drop(packId: string): Promise<void> {
    const pack = this.#open.get(packId);
    if (pack === undefined) return;
    this.#open.delete(packId);
    pack.isDropped = true;
    if (pack.users === 0) await close(pack);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const packId of [...this.#open.keys()]) await this.drop(packId);
  }

  #take(packId: string): OpenPack {
    const known = this.#open.get(packId);
    if (known !== undefined) {
      this.#open.delete(packId);
      this.#open.set(packId, known);
      return known;
    }
    const pack: OpenPack = { file: this.#disk.open(packPath(packId)), users: 0, isDropped: false };
    this.#open.set(packId, pack);
    for (const [oldId, old] of this.#open) {
      if (this.#open.size <= this.#most) break;
      if (old.users > 0 || old === pack) continue;
      this.#open.delete(oldId);
      old.isDropped = true;
      void close(old);
    }
    pack.file.catch(() => this.#open.delete(packId));
    return pack;
  }
}

interface OpenPack {
  readonly file: Promise<DiskFile | undefined>;
  users: number;
  isDropped: boolean;
}

async function close(pack: OpenPack): Promise<void> {
  // A file that could not be opened has told its reader so already.
  const file = await pack.file.catch(() => undefined);
  await file?.[Symbol.asyncDispose]();
}
