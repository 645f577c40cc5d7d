import { digestBytes, digestFromBytes, IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { ManifestEntry } from '../../keep/index.ts';

/** Media type of the list of an image's manifest pages. */
export const PAGES_MEDIA_TYPE = 'application/vnd.ingot.pages';
/** Media type of one manifest page. */
export const PAGE_MEDIA_TYPE = 'application/vnd.ingot.page';

const PAGES_MAGIC = Buffer.from('ingpgs\0\x01', 'latin1');
const PAGE_MAGIC = Buffer.from('ingpag\0\x01', 'latin1');
const MAGIC_BYTES = 8;
const TAG_HOLE = 0;
const TAG_CHUNK = 1;
const HOLE_BYTES = 9;
const CHUNK_BYTES = 37;

/** A page has never more entries. */
export const MAX_WIRE_PAGE_ENTRIES = 2048;
/** 2^20 pages of at least 8 KiB each: what a list of pages may hold. */
const MAX_PAGES = 2 ** 20;

/** What a reader must know of an image before it reads its pages. */
export interface WirePages {
  readonly sizeBytes: number;
  /** Plain bytes of each page, in disk order. */
  readonly plainBytes: readonly number[];
}

/** @see docs/formats/native-wire.md */
export function encodePages({ sizeBytes, plainBytes }: WirePages): Buffer {
  const bytes = Buffer.allocUnsafe(MAGIC_BYTES + 12 + 8 * plainBytes.length);
  PAGES_MAGIC.copy(bytes);
  bytes.writeBigUInt64LE(BigInt(sizeBytes), 8);
  bytes.writeUInt32LE(plainBytes.length, 16);
  for (const [i, length] of plainBytes.entries())
    bytes.writeBigUInt64LE(BigInt(length), 20 + 8 * i);
  return bytes;
}

/**
 * Decodes what {@link encodePages} made.
 *
 * @throws IngotError `manifest-invalid`, `version-unknown`
 */
export function decodePages(bytes: Buffer): WirePages {
  checkMagic(bytes, PAGES_MAGIC);
  if (bytes.length < MAGIC_BYTES + 12) throw invalid('the list of pages is cut short');
  const sizeBytes = safeLength(bytes.readBigUInt64LE(8));
  const count = bytes.readUInt32LE(16);
  if (count > MAX_PAGES || bytes.length !== 20 + 8 * count) {
    throw invalid(`${bytes.length} bytes do not list ${count} pages`);
  }
  const plainBytes = Array.from({ length: count }, (_, i) =>
    safeLength(bytes.readBigUInt64LE(20 + 8 * i)),
  );
  if (plainBytes.reduce((sum, length) => sum + length, 0) !== sizeBytes) {
    throw invalid(`the pages do not cover ${sizeBytes} bytes`);
  }
  return { sizeBytes, plainBytes };
}

/** @see docs/formats/native-wire.md */
export function encodePage(entries: readonly ManifestEntry[]): Buffer {
  const bytes = Buffer.allocUnsafe(MAGIC_BYTES + 4 + entries.length * CHUNK_BYTES);
  PAGE_MAGIC.copy(bytes);
  bytes.writeUInt32LE(entries.length, MAGIC_BYTES);
  let at = MAGIC_BYTES + 4;
  for (const entry of entries) {
    if (entry.kind === 'hole') {
      bytes[at] = TAG_HOLE;
      bytes.writeBigUInt64LE(BigInt(entry.lengthBytes), at + 1);
      at += HOLE_BYTES;
    } else {
      bytes[at] = TAG_CHUNK;
      bytes.writeUInt32LE(entry.lengthBytes, at + 1);
      bytes.set(digestBytes(entry.digest), at + 5);
      at += CHUNK_BYTES;
    }
  }
  return bytes.subarray(0, at);
}

/**
 * Decodes what {@link encodePage} made.
 *
 * @throws IngotError `manifest-invalid`, `version-unknown`
 */
export function decodePage(bytes: Buffer): ManifestEntry[] {
  checkMagic(bytes, PAGE_MAGIC);
  if (bytes.length < MAGIC_BYTES + 4) throw invalid('the page is cut short');
  const count = bytes.readUInt32LE(MAGIC_BYTES);
  if (count > MAX_WIRE_PAGE_ENTRIES) throw invalid(`a page has no ${count} entries`);
  const entries: ManifestEntry[] = [];
  let at = MAGIC_BYTES + 4;
  while (entries.length < count) {
    const tag = bytes[at];
    const length = tag === TAG_CHUNK ? CHUNK_BYTES : HOLE_BYTES;
    if (tag !== TAG_CHUNK && tag !== TAG_HOLE) throw invalid(`an entry has the tag ${tag}`);
    if (at + length > bytes.length) throw invalid('the page is cut short');
    entries.push(tag === TAG_CHUNK ? chunkAt(bytes, at) : holeAt(bytes, at));
    at += length;
  }
  if (at !== bytes.length) throw invalid(`${bytes.length - at} bytes follow the page`);
  return entries;
}

function chunkAt(bytes: Buffer, at: number): ManifestEntry {
  const lengthBytes = bytes.readUInt32LE(at + 1);
  if (lengthBytes === 0 || lengthBytes > MAX_CHUNK_BYTES) {
    throw invalid(`a chunk has no ${lengthBytes} bytes`);
  }
  return { kind: 'chunk', digest: digestFromBytes(bytes.subarray(at + 5, at + 37)), lengthBytes };
}

function holeAt(bytes: Buffer, at: number): ManifestEntry {
  return { kind: 'hole', lengthBytes: safeLength(bytes.readBigUInt64LE(at + 1)) };
}

/** Encodes which entries of a page are asked for. */
export function encodeIndices(indices: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * indices.length);
  for (const [i, index] of indices.entries()) bytes.writeUInt32LE(index, 4 * i);
  return bytes;
}

/**
 * Decodes what {@link encodeIndices} made.
 *
 * @throws IngotError `request-invalid`
 */
export function decodeIndices(bytes: Buffer): number[] {
  if (bytes.length % 4 !== 0 || bytes.length === 0) {
    throw new IngotError('request-invalid', `${bytes.length} bytes are no list of entries`);
  }
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(4 * i));
}

function checkMagic(bytes: Buffer, magic: Buffer): void {
  if (bytes.length < MAGIC_BYTES || !bytes.subarray(0, 7).equals(magic.subarray(0, 7)))
    throw invalid('the answer is no manifest');
  if (bytes[7] !== magic[7]) {
    throw new IngotError('version-unknown', `a manifest of version ${bytes[7]} is not known`);
  }
}

function safeLength(length: bigint): number {
  if (length === 0n || length > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid(`an extent has no ${length} bytes`);
  }
  return Number(length);
}

function invalid(message: string): IngotError {
  return new IngotError('manifest-invalid', message);
}
