import { createHash } from 'node:crypto';
import { type Digest, digestFromBytes, IngotError, MIB } from '../base/index.ts';
import { MAX_CHUNK_BYTES, MAX_CODED_BYTES } from './segment.ts';

/**
 * Where one segment lies in its pack, and what it must yield.
 *
 * @see docs/formats/pack.md
 */
export interface PackEntry {
  readonly digest: Digest;
  readonly offsetBytes: number;
  readonly codedBytes: number;
  readonly plainBytes: number;
  readonly plainCrc32: number;
  readonly codedCrc32: number;
}

export const PACK_HEADER_BYTES = 32;
export const PACK_TRAILER_BYTES = 56;
export const PACK_ENTRY_BYTES = 56;
/** A writer seals a pack at this many bytes of segments. */
export const PACK_TARGET_BYTES = 64 * MIB;
/** A writer seals a pack at this many entries. */
export const PACK_TARGET_ENTRIES = 65_536;

const MAX_PACK_BYTES = 256 * MIB;
const MAX_PACK_ENTRIES = 131_072;
const VERSION = 1;
const HEAD_MAGIC = Buffer.from('ingotpak', 'latin1');
const TAIL_MAGIC = Buffer.from('ingotend', 'latin1');
const PACK_ID = /^[0-9a-f]{32}$/;

/** Tells whether `text` has the form of a pack's id: 32 hex digits. */
export function isPackId(text: string): boolean {
  return PACK_ID.test(text);
}

/** @param packId 32 hex digits */
export function encodePackHeader(packId: string): Buffer {
  if (!isPackId(packId)) throw new RangeError(`a pack id has 32 hex digits, not ${packId}`);
  const header = Buffer.alloc(PACK_HEADER_BYTES);
  HEAD_MAGIC.copy(header, 0);
  header.writeUInt32LE(VERSION, 8);
  header.write(packId, 16, 'hex');
  return header;
}

/**
 * Checks the first 32 bytes of a pack.
 *
 * @throws IngotError `pack-corrupt` when they are not those of the pack `packId`, `version-unknown`
 */
export function checkPackHeader(header: Uint8Array, packId: string): void {
  const bytes = asBuffer(header);
  if (bytes.length !== PACK_HEADER_BYTES || !bytes.subarray(0, 8).equals(HEAD_MAGIC)) {
    throw corrupt(packId, 'it does not begin with the header of a pack');
  }
  const version = bytes.readUInt32LE(8);
  const flags = bytes.readUInt32LE(12);
  if (version !== VERSION || flags !== 0) throw unknownVersion(packId, version, flags);
  const found = bytes.toString('hex', 16, 32);
  if (found !== packId) throw corrupt(packId, `its header names the pack ${found}`);
}

/** @param entries in file order; the last part of a pack: entries and trailer */
export function encodePackFooter(packId: string, entries: readonly PackEntry[]): Buffer {
  const last = entries.at(-1);
  const footerOffset = last === undefined ? PACK_HEADER_BYTES : last.offsetBytes + last.codedBytes;
  const entriesBytes = entries.length * PACK_ENTRY_BYTES;
  const footer = Buffer.alloc(entriesBytes + PACK_TRAILER_BYTES);
  let at = 0;
  for (const entry of entries) {
    footer.write(entry.digest, at, 'hex');
    writeUint64(footer, entry.offsetBytes, at + 32);
    footer.writeUInt32LE(entry.codedBytes, at + 40);
    footer.writeUInt32LE(entry.plainBytes, at + 44);
    footer.writeUInt32LE(entry.plainCrc32, at + 48);
    footer.writeUInt32LE(entry.codedCrc32, at + 52);
    at += PACK_ENTRY_BYTES;
  }
  indexDigest(encodePackHeader(packId), footer.subarray(0, entriesBytes)).copy(footer, at);
  footer.writeUInt32LE(entries.length, at + 32);
  writeUint64(footer, footerOffset, at + 40);
  TAIL_MAGIC.copy(footer, at + 48);
  return footer;
}

/**
 * Reads where the entries of a pack begin.
 *
 * @param trailer the last 56 bytes of the file
 * @param fileBytes the size of the whole file
 * @throws IngotError `pack-corrupt`, `version-unknown`
 */
export function parsePackTrailer(
  trailer: Uint8Array,
  packId: string,
  fileBytes: number,
): { readonly footerOffsetBytes: number; readonly entryCount: number } {
  const bytes = asBuffer(trailer);
  if (bytes.length !== PACK_TRAILER_BYTES || !bytes.subarray(48).equals(TAIL_MAGIC)) {
    throw corrupt(packId, 'it does not end with the trailer of a pack');
  }
  const flags = bytes.readUInt32LE(36);
  if (flags !== 0) throw unknownVersion(packId, VERSION, flags);
  const entryCount = bytes.readUInt32LE(32);
  const footerOffsetBytes = readUint64(bytes, 40);
  const expected = footerOffsetBytes + entryCount * PACK_ENTRY_BYTES + PACK_TRAILER_BYTES;
  if (fileBytes > MAX_PACK_BYTES || entryCount > MAX_PACK_ENTRIES) {
    throw corrupt(packId, `${fileBytes} bytes with ${entryCount} entries are more than a pack has`);
  }
  if (expected !== fileBytes || footerOffsetBytes < PACK_HEADER_BYTES) {
    throw corrupt(
      packId,
      `${entryCount} entries at ${footerOffsetBytes} do not fit ${fileBytes} bytes`,
    );
  }
  return { footerOffsetBytes, entryCount };
}

/**
 * Reads the entries of a pack.
 *
 * @param header the first 32 bytes of the file
 * @param footer everything from the first entry to the end of the file
 * @param footerOffsetBytes where `footer` begins in the file
 * @throws IngotError `pack-corrupt`, `version-unknown`
 */
export function parsePackFooter(
  header: Uint8Array,
  footer: Uint8Array,
  packId: string,
  footerOffsetBytes: number,
): PackEntry[] {
  checkPackHeader(header, packId);
  const bytes = asBuffer(footer);
  const entriesBytes = bytes.length - PACK_TRAILER_BYTES;
  const trailer = bytes.subarray(Math.max(0, entriesBytes));
  const { entryCount } = parsePackTrailer(trailer, packId, footerOffsetBytes + bytes.length);
  const index = bytes.subarray(0, entriesBytes);
  if (!indexDigest(header, index).equals(trailer.subarray(0, 32))) {
    throw corrupt(packId, 'the digest of its index differs');
  }
  const entries: PackEntry[] = [];
  let end = PACK_HEADER_BYTES;
  for (let at = 0; entries.length < entryCount; at += PACK_ENTRY_BYTES) {
    const entry = readEntry(index, at);
    if (
      entry.offsetBytes < end ||
      entry.plainBytes < 1 ||
      entry.plainBytes > MAX_CHUNK_BYTES ||
      entry.codedBytes < 1 ||
      entry.codedBytes > MAX_CODED_BYTES
    ) {
      throw corrupt(packId, `entry ${entries.length} lies outside its place`);
    }
    end = entry.offsetBytes + entry.codedBytes;
    entries.push(entry);
  }
  if (end > footerOffsetBytes) throw corrupt(packId, 'its last segment runs into the index');
  return entries;
}

/** @returns the entry at `at`, unchecked */
function readEntry(bytes: Buffer, at: number): PackEntry {
  return {
    digest: digestFromBytes(bytes.subarray(at, at + 32)),
    offsetBytes: readUint64(bytes, at + 32),
    codedBytes: bytes.readUInt32LE(at + 40),
    plainBytes: bytes.readUInt32LE(at + 44),
    plainCrc32: bytes.readUInt32LE(at + 48),
    codedCrc32: bytes.readUInt32LE(at + 52),
  };
}

function indexDigest(header: Uint8Array, entries: Uint8Array): Buffer {
  return createHash('sha256').update(header).update(entries).digest();
}

/** Numbers above 2^53 become Infinity's neighbours, which every check above refuses. */
function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000;
}

function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, at);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function corrupt(packId: string, what: string): IngotError {
  return new IngotError('pack-corrupt', `pack ${packId}: ${what}`, { pack: packId });
}

function unknownVersion(packId: string, version: number, flags: number): IngotError {
  return new IngotError(
    'version-unknown',
    `pack ${packId} has version ${version} and flags ${flags}; this program knows version 1 and flags 0`,
    { pack: packId, version },
  );
}
