import { constants, inflateSync, zstdDecompressSync } from 'node:zlib';
import { IngotError } from '../../../base/index.ts';
import { malformed } from '../metadata-reader.ts';
import { decodeBtrfsLzo } from './lzo.ts';
import type { TreeItem } from './tree.ts';

/** Type of the items that say where a file's bytes are. */
export const EXTENT_DATA = 108;
const TYPE = { inline: 0, regular: 1, preallocated: 2 } as const;
const INLINE_BYTES = 21;
const REGULAR_BYTES = 53;
const COMPRESSIONS = ['none', 'zlib', 'lzo', 'zstd'] as const;
/** The kernel compresses 128 KiB at a time. */
const MAX_COMPRESSED_BYTES = 1024 * 1024;

/** A part of a file. */
export interface FileExtent {
  readonly fileOffset: number;
  /** How many bytes of the file it holds. */
  readonly lengthBytes: number;
  readonly compression: (typeof COMPRESSIONS)[number];
  /** Bytes in the tree itself; undefined when they lie elsewhere. */
  readonly inline: Buffer | undefined;
  /** What lies on the disk; undefined for a hole and for preallocated space. */
  readonly stored:
    | { readonly logical: number; readonly lengthBytes: number; readonly skippedBytes: number }
    | undefined;
  /** All bytes of the extent, after decompression; the file has a part of them. */
  readonly plainBytes: number;
}

/**
 * Reads an item that says where bytes of a file are.
 *
 * @throws IngotError `filesystem-malformed`; `source-unsupported` for encryption
 */
export function parseFileExtent({ offset, data }: TreeItem): FileExtent {
  if (data.length < INLINE_BYTES) throw malformed(`a file extent has ${data.length} bytes`);
  const compression = COMPRESSIONS[data.readUInt8(16)];
  if (compression === undefined || data.readUInt8(17) !== 0 || data.readUInt16LE(18) !== 0) {
    throw new IngotError('source-unsupported', 'a file extent is encoded in an unknown way');
  }
  const plainBytes = Number(data.readBigUInt64LE(8));
  const type = data.readUInt8(20);
  const fileOffset = Number(offset);
  if (type === TYPE.inline) {
    const inline = data.subarray(INLINE_BYTES);
    const common = { fileOffset, compression, plainBytes, stored: undefined };
    return { ...common, inline, lengthBytes: plainBytes };
  }
  if (type > TYPE.preallocated || data.length < REGULAR_BYTES) {
    throw malformed(`a file extent has type ${type} and ${data.length} bytes`);
  }
  const logical = Number(data.readBigUInt64LE(21));
  const storedBytes = Number(data.readBigUInt64LE(29));
  const skippedBytes = Number(data.readBigUInt64LE(37));
  const lengthBytes = Number(data.readBigUInt64LE(45));
  const isHole = logical === 0 || type === TYPE.preallocated;
  const end = skippedBytes + lengthBytes;
  if (!isHole && end > (compression === 'none' ? storedBytes : plainBytes)) {
    throw malformed(`a file has ${lengthBytes} bytes of an extent of ${plainBytes}`);
  }
  const stored = isHole ? undefined : { logical, lengthBytes: storedBytes, skippedBytes };
  return { fileOffset, lengthBytes, compression, inline: undefined, stored, plainBytes };
}

/**
 * Decompresses the bytes of an extent.
 *
 * @param sectorBytes of the filesystem
 * @throws IngotError `filesystem-malformed`
 */
export function decompressExtent(extent: FileExtent, stored: Buffer, sectorBytes: number): Buffer {
  const { compression, plainBytes } = extent;
  if (compression === 'none') return stored;
  if (plainBytes > MAX_COMPRESSED_BYTES || stored.length > MAX_COMPRESSED_BYTES) {
    throw malformed(`a compressed extent has ${plainBytes} bytes`);
  }
  const limits = { maxOutputLength: plainBytes + 1 };
  try {
    const plain =
      compression === 'zlib'
        ? inflateSync(stored, { ...limits, finishFlush: constants.Z_SYNC_FLUSH })
        : compression === 'zstd'
          ? zstdDecompressSync(zstdFrame(stored), limits)
          : decodeBtrfsLzo(stored, { plainBytes, sectorBytes });
    // What a last block has beyond its file's end need not be stored.
    return Buffer.concat([plain, Buffer.alloc(Math.max(0, plainBytes - plain.length))]);
  } catch (cause) {
    const words = `an extent compressed with ${compression} cannot be read`;
    throw new IngotError('filesystem-malformed', words, {}, { cause });
  }
}

/**
 * Cuts what stands behind a zstd frame: the rest of its last sector.
 *
 * @see RFC 8878 section 3.1.1
 */
function zstdFrame(bytes: Buffer): Buffer {
  const descriptor = bytes.readUInt8(4);
  const isSingle = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  let at = 5 + (isSingle ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (;;) {
    const header = bytes.readUIntLE(at, 3);
    const isRunLength = ((header >> 1) & 3) === 1;
    at += 3 + (isRunLength ? 1 : header >> 3);
    if ((header & 1) === 1) break;
  }
  const checksumBytes = (descriptor & 4) === 0 ? 0 : 4;
  return bytes.subarray(0, at + checksumBytes);
}
