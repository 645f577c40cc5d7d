import { type Digest, digestFromBytes, digestOf, IngotError } from '../base/index.ts';
import { MAX_CHUNK_BYTES } from './segment.ts';

/** One extent of a manifest in disk order: a chunk, or a hole that reads as zeros. */
export type PageEntry =
  | { readonly kind: 'chunk'; readonly digest: Digest; readonly lengthBytes: number }
  | { readonly kind: 'hole'; readonly lengthBytes: number };

/** A part of a manifest: entries, their bytes on disk, and the page's own name. */
export interface ManifestPage {
  readonly digest: Digest;
  readonly bytes: Buffer;
  readonly entries: readonly PageEntry[];
  readonly plainBytes: number;
}

/** A page never has more entries than this. */
export const MAX_PAGE_ENTRIES = 2048;
/** The bytes of the largest page. */
export const MAX_PAGE_BYTES = 24 + 40 * MAX_PAGE_ENTRIES;

const MIN_PAGE_ENTRIES = 64;
const CUT_EVERY = 512;
const HEADER_BYTES = 24;
const ENTRY_BYTES = 40;
const VERSION = 1;
const MAGIC = Buffer.from('ingotpag', 'latin1');
const HOLE = Buffer.alloc(32);

/**
 * Cuts a stream of entries into pages by content, so that images that share chunks share pages.
 *
 * @see docs/formats/manifest.md
 */
export class PageCutter {
  #entries: PageEntry[] = [];

  /**
   * Takes one entry.
   *
   * @returns a page when this entry ends one
   * @throws IngotError `manifest-invalid` for a length that no entry may have
   */
  push(entry: PageEntry): ManifestPage | undefined {
    checkLength(entry);
    this.#entries.push(entry);
    if (this.#entries.length < MIN_PAGE_ENTRIES) return undefined;
    const mayCut =
      entry.kind === 'chunk' && Number.parseInt(entry.digest.slice(0, 8), 16) % CUT_EVERY === 0;
    return mayCut || this.#entries.length === MAX_PAGE_ENTRIES ? this.#cut() : undefined;
  }

  /** @returns the last page, or undefined when nothing is left */
  end(): ManifestPage | undefined {
    return this.#entries.length === 0 ? undefined : this.#cut();
  }

  #cut(): ManifestPage {
    const page = encodeManifestPage(this.#entries);
    this.#entries = [];
    return page;
  }
}

/** @param entries 1 to 2048, with lengths that {@link PageCutter} takes */
export function encodeManifestPage(entries: readonly PageEntry[]): ManifestPage {
  const bytes = Buffer.alloc(HEADER_BYTES + entries.length * ENTRY_BYTES);
  let plainBytes = 0;
  let at = HEADER_BYTES;
  for (const entry of entries) {
    if (entry.kind === 'chunk') bytes.write(entry.digest, at, 'hex');
    writeUint64(bytes, entry.lengthBytes, at + 32);
    plainBytes += entry.lengthBytes;
    at += ENTRY_BYTES;
  }
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(entries.length, 12);
  writeUint64(bytes, plainBytes, 16);
  return { digest: digestOf(bytes), bytes, entries, plainBytes };
}

/**
 * Reads a page back.
 *
 * @param digest the name it was stored under
 * @throws IngotError `manifest-invalid`, `version-unknown`
 */
export function parseManifestPage(bytes: Buffer, digest: Digest): ManifestPage {
  if (digestOf(bytes) !== digest) throw invalid(digest, 'its bytes have another digest');
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) {
    throw invalid(digest, 'it does not begin with the header of a page');
  }
  const version = bytes.readUInt32LE(8);
  if (version !== VERSION) {
    throw new IngotError(
      'version-unknown',
      `manifest page ${digest} has version ${version}; this program knows version ${VERSION}`,
      { version },
    );
  }
  const count = bytes.readUInt32LE(12);
  if (
    count < 1 ||
    count > MAX_PAGE_ENTRIES ||
    bytes.length !== HEADER_BYTES + count * ENTRY_BYTES
  ) {
    throw invalid(digest, `${count} entries do not fit ${bytes.length} bytes`);
  }
  const entries: PageEntry[] = [];
  let plainBytes = 0;
  for (let at = HEADER_BYTES; at < bytes.length; at += ENTRY_BYTES) {
    const lengthBytes = readUint64(bytes, at + 32);
    const name = bytes.subarray(at, at + 32);
    const entry: PageEntry = name.equals(HOLE)
      ? { kind: 'hole', lengthBytes }
      : { kind: 'chunk', digest: digestFromBytes(name), lengthBytes };
    checkLength(entry);
    plainBytes += lengthBytes;
    entries.push(entry);
  }
  if (plainBytes !== readUint64(bytes, 16) || !Number.isSafeInteger(plainBytes)) {
    throw invalid(digest, `its entries add up to ${plainBytes} bytes`);
  }
  return { digest, bytes, entries, plainBytes };
}

function checkLength(entry: PageEntry): void {
  const most = entry.kind === 'chunk' ? MAX_CHUNK_BYTES : Number.MAX_SAFE_INTEGER;
  if (!Number.isInteger(entry.lengthBytes) || entry.lengthBytes < 1 || entry.lengthBytes > most) {
    throw new IngotError(
      'manifest-invalid',
      `an extent of ${entry.lengthBytes} bytes is no ${entry.kind}`,
    );
  }
}

function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000;
}

function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, at);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}

function invalid(digest: Digest, what: string): IngotError {
  return new IngotError('manifest-invalid', `manifest page ${digest}: ${what}`);
}
