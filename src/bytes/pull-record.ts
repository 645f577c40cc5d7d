import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';
import type { Extent } from './extent.ts';

/** Bytes that a pull file begins with. */
export const PULL_FILE_HEAD_BYTES = 32;
/** Bytes that a record begins with, before its ranges. */
export const PULL_RECORD_HEAD_BYTES = 16;

const FILE_MAGIC = 'INGOT pull file 1\n';
const RECORD_MAGIC = 'IPR1';
const RANGE_BYTES = 16;
const MAX_RANGES = 4096;
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const MAX_PLAIN_BYTES = 64 * 1024 * 1024;

/** How long the parts of a record are. */
export interface PullRecordHead {
  readonly rangesBytes: number;
  readonly frameBytes: number;
}

/**
 * Makes the beginning of a pull file.
 *
 * @param sizeBytes of the disk that is pulled
 * @see docs/formats/pull-protocol.md "The pull file"
 */
export function encodePullFileHead(sizeBytes: number): Buffer {
  const head = Buffer.alloc(PULL_FILE_HEAD_BYTES);
  head.write(FILE_MAGIC, 'latin1');
  head.writeBigUInt64LE(BigInt(sizeBytes), 24);
  return head;
}

/** @returns the size of the disk that is pulled, or undefined when this is no pull file */
export function parsePullFileHead(head: Buffer): number | undefined {
  const sizeBytes = Number(head.readBigUInt64LE(24));
  const isOne = head.toString('latin1', 0, FILE_MAGIC.length) === FILE_MAGIC;
  return isOne && Number.isSafeInteger(sizeBytes) ? sizeBytes : undefined;
}

/** Makes what stands before a frame: which ranges it has, and how long it is. */
export function encodePullRecord(ranges: readonly Extent[], frameBytes: number): Buffer {
  const record = Buffer.alloc(PULL_RECORD_HEAD_BYTES + ranges.length * RANGE_BYTES);
  record.write(RECORD_MAGIC, 'latin1');
  record.writeUInt32LE(ranges.length, 4);
  record.writeUInt32LE(frameBytes, 8);
  for (const [i, { offsetBytes, lengthBytes }] of ranges.entries()) {
    const at = PULL_RECORD_HEAD_BYTES + i * RANGE_BYTES;
    record.writeBigUInt64LE(BigInt(offsetBytes), at);
    record.writeBigUInt64LE(BigInt(lengthBytes), at + 8);
  }
  record.writeUInt32LE(checksumOf(record), 12);
  return record;
}

/** @returns how much belongs to a record, or undefined when none begins here */
export function parsePullRecordHead(head: Buffer): PullRecordHead | undefined {
  if (head.toString('latin1', 0, 4) !== RECORD_MAGIC) return undefined;
  const count = head.readUInt32LE(4);
  const frameBytes = head.readUInt32LE(8);
  if (count === 0 || count > MAX_RANGES || frameBytes === 0 || frameBytes > MAX_FRAME_BYTES) {
    return undefined;
  }
  return { rangesBytes: count * RANGE_BYTES, frameBytes };
}

/**
 * Reads the ranges of a record.
 *
 * @param record its head and its ranges
 * @param sizeBytes of the disk
 * @returns ascending, inside the disk; undefined when the record is damaged
 */
export function parsePullRecord(record: Buffer, sizeBytes: number): readonly Extent[] | undefined {
  if (record.readUInt32LE(12) !== checksumOf(record)) return undefined;
  const ranges: Extent[] = [];
  let end = 0;
  let plainBytes = 0;
  for (let at = PULL_RECORD_HEAD_BYTES; at < record.length; at += RANGE_BYTES) {
    const offsetBytes = Number(record.readBigUInt64LE(at));
    const lengthBytes = Number(record.readBigUInt64LE(at + 8));
    plainBytes += lengthBytes;
    if (offsetBytes < end || lengthBytes === 0 || plainBytes > MAX_PLAIN_BYTES) return undefined;
    end = offsetBytes + lengthBytes;
    ranges.push({ offsetBytes, lengthBytes });
  }
  return end <= sizeBytes ? ranges : undefined;
}

function checksumOf(record: Buffer): number {
  return crc32(record.subarray(PULL_RECORD_HEAD_BYTES), crc32(record.subarray(4, 12)));
}
