import { type MetadataReader, malformed } from '../metadata-reader.ts';
import type { XfsSuperblock } from './superblock.ts';

const BLOCK_BYTES = 512;
const HEADER_MAGIC = 0xfeedbabe;
/** A record header keeps the first words of so many blocks; larger records have more headers. */
const BLOCKS_PER_HEADER = 64;
const HEADER_CYCLE_BYTES = BLOCKS_PER_HEADER * BLOCK_BYTES;
/** The largest record: 256 KiB and its headers. */
const MAX_RECORD_BLOCKS = 512 + 8;
/** After a freeze a few records are left; with more than this nothing is clean. */
const MAX_PENDING_RECORDS = 32;
const OPERATION_BYTES = 12;
const FLAGS = { start: 0x1, commit: 0x2, continues: 0x4, continued: 0x8, unmount: 0x20 } as const;
const TRANSACTION_MAGIC = 0x5452414e;
const BUFFER_ITEM = 0x123c;
const LITTLE_ENDIAN_FORMAT = 1;

interface LogRecord {
  readonly block: number;
  readonly header: Buffer;
  readonly headers: number;
  readonly dataBlocks: number;
}

/**
 * Tells whether nothing in the log is needed to know which blocks are free: it ends with an unmount
 * record, or all that is pending are changes of the superblock's counters, as a freeze leaves them.
 *
 * @returns false on any doubt
 */
export async function isXfsLogClean(disk: MetadataReader, sb: XfsSuperblock): Promise<boolean> {
  const log = new LogReader(disk, sb);
  const head = await log.findHead();
  for (let block = head - 1; block >= Math.max(0, head - MAX_RECORD_BLOCKS); block--) {
    const last = await log.recordAt(block);
    if (last === undefined) continue;
    if (last.block + last.headers + last.dataBlocks !== head) return false;
    return (await log.isUnmount(last)) || (await log.isSuperblockOnly(last, head));
  }
  return false;
}

class LogReader {
  readonly #disk: MetadataReader;
  readonly #offsetBytes: number;
  readonly #blocks: number;

  constructor(disk: MetadataReader, sb: XfsSuperblock) {
    this.#disk = disk;
    this.#offsetBytes = sb.logOffsetBytes;
    this.#blocks = Math.floor(sb.logBytes / BLOCK_BYTES);
    if (this.#blocks < 2) throw malformed(`its log has ${this.#blocks} blocks`);
  }

  /**
   * Each block of 512 bytes starts with the number of the cycle in which it was written; the head
   * is where that number changes, found by halving.
   */
  async findHead(): Promise<number> {
    const firstCycle = await this.#cycleOf(0);
    // Block `low` has the first block's cycle, block `high` has not, or is the end.
    let [low, high] = [0, this.#blocks];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if ((await this.#cycleOf(middle)) === firstCycle) low = middle;
      else high = middle;
    }
    return high;
  }

  async recordAt(block: number): Promise<LogRecord | undefined> {
    const header = await this.#read(block, 1);
    if (header.readUInt32BE(0) !== HEADER_MAGIC) return undefined;
    const hasLargeRecords = (header.readUInt32BE(8) & 2) !== 0;
    const sizeBytes = hasLargeRecords ? header.readUInt32BE(320) : 0;
    return {
      block,
      header,
      headers: Math.max(1, Math.ceil(sizeBytes / HEADER_CYCLE_BYTES)),
      dataBlocks: Math.ceil(header.readUInt32BE(12) / BLOCK_BYTES),
    };
  }

  async isUnmount(record: LogRecord): Promise<boolean> {
    if (record.header.readUInt32BE(40) !== 1 || record.dataBlocks < 1) return false;
    const operation = await this.#read(record.block + record.headers, 1);
    return (operation.readUInt8(9) & FLAGS.unmount) !== 0;
  }

  /** Follows the records from the tail that the last one names to the head. */
  async isSuperblockOnly(last: LogRecord, head: number): Promise<boolean> {
    const isSameCycle = last.header.readUInt32BE(24) === last.header.readUInt32BE(4);
    let block = last.header.readUInt32BE(28);
    // A tail in the cycle before would wrap around the end; a freeze has a short log.
    if (!isSameCycle || block >= head) return false;
    for (let count = 0; block < head; count++) {
      const record = await this.recordAt(block);
      if (record === undefined || count === MAX_PENDING_RECORDS) return false;
      if (!(await this.#changesSuperblockOnly(record))) return false;
      block += record.headers + record.dataBlocks;
    }
    return block === head;
  }

  async #changesSuperblockOnly(record: LogRecord): Promise<boolean> {
    const { header, dataBlocks } = record;
    if (dataBlocks > BLOCKS_PER_HEADER || header.readUInt32BE(300) !== LITTLE_ENDIAN_FORMAT) {
      return false;
    }
    const data = Buffer.from(await this.#read(record.block + record.headers, dataBlocks));
    // The first word of every block is kept in the header, since the cycle stands in its place.
    for (let i = 0; i < dataBlocks; i++) header.copy(data, i * BLOCK_BYTES, 44 + i * 4, 48 + i * 4);
    return isSuperblockTransaction(data, header.readUInt32BE(40));
  }

  async #cycleOf(block: number): Promise<number> {
    const bytes = await this.#read(block, 1);
    return bytes.readUInt32BE(bytes.readUInt32BE(0) === HEADER_MAGIC ? 4 : 0);
  }

  async #read(block: number, blocks: number): Promise<Buffer> {
    if (block + blocks > this.#blocks) throw malformed('a record of the log wraps around its end');
    const at = this.#offsetBytes + block * BLOCK_BYTES;
    return await this.#disk.read(at, blocks * BLOCK_BYTES, 'the log');
  }
}

/** Tells whether all items of the operations are buffers at block 0: the superblock. */
function isSuperblockTransaction(data: Buffer, operations: number): boolean {
  let at = 0;
  /** Regions of the current item that hold its bytes, not its description. */
  let rest = 0;
  for (let i = 0; i < operations; i++) {
    if (at + OPERATION_BYTES > data.length) return false;
    const lengthBytes = data.readUInt32BE(at + 4);
    const flags = data.readUInt8(at + 9);
    const region = data.subarray(at + OPERATION_BYTES, at + OPERATION_BYTES + lengthBytes);
    if (region.length !== lengthBytes) return false;
    at += OPERATION_BYTES + lengthBytes;
    if ((flags & (FLAGS.continues | FLAGS.continued | FLAGS.unmount)) !== 0) return false;
    if (lengthBytes === 0) continue;
    if (rest > 0) {
      rest -= 1;
    } else if (lengthBytes < 16) {
      return false;
    } else if (region.readUInt32LE(0) !== TRANSACTION_MAGIC) {
      const isSuperblock =
        region.readUInt16LE(0) === BUFFER_ITEM && region.readBigInt64LE(8) === 0n;
      if (!isSuperblock) return false;
      rest = region.readUInt16LE(2) - 1;
    }
  }
  return rest === 0;
}
