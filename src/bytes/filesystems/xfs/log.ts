import { type MetadataReader, malformed } from '../metadata-reader.ts';
import type { XfsSuperblock } from './superblock.ts';

const BLOCK_BYTES = 512;
const HEADER_MAGIC = 0xfeedbabe;
const HEADER_CYCLE_BYTES = 32 * 1024;
const UNMOUNT_FLAG = 0x20;
/** The largest record: 256 KiB and its headers. */
const MAX_RECORD_BLOCKS = 512 + 8;

/**
 * Tells whether the log ends with an unmount record, so that nothing in it is needed.
 *
 * Each block of 512 bytes starts with the number of the cycle in which it was written, so the head
 * is where that number falls: found by halving. The record before it must be the unmount record,
 * and end exactly there.
 *
 * @returns false on any doubt
 */
export async function isXfsLogClean(disk: MetadataReader, sb: XfsSuperblock): Promise<boolean> {
  const blocks = Math.floor(sb.logBytes / BLOCK_BYTES);
  const read = (block: number): Promise<Buffer> =>
    disk.read(sb.logOffsetBytes + block * BLOCK_BYTES, BLOCK_BYTES, 'the log');
  const cycleOf = async (block: number): Promise<number> => {
    const bytes = await read(block);
    return bytes.readUInt32BE(bytes.readUInt32BE(0) === HEADER_MAGIC ? 4 : 0);
  };
  if (blocks < 2) throw malformed(`its log has ${blocks} blocks`);
  const firstCycle = await cycleOf(0);
  let [low, high] = [0, blocks];
  // The invariant: block `low` has the first block's cycle, block `high` has not (or is the end).
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if ((await cycleOf(middle)) === firstCycle) low = middle;
    else high = middle;
  }
  for (let block = high - 1; block >= Math.max(0, high - MAX_RECORD_BLOCKS); block--) {
    const header = await read(block);
    if (header.readUInt32BE(0) !== HEADER_MAGIC) continue;
    const isVersion2 = (header.readUInt32BE(8) & 2) !== 0;
    const headerBytes = isVersion2 ? header.readUInt32BE(320) : 0;
    const headers = Math.max(1, Math.ceil(headerBytes / HEADER_CYCLE_BYTES));
    const end = block + headers + Math.ceil(header.readUInt32BE(12) / BLOCK_BYTES);
    if (end !== high || header.readUInt32BE(40) !== 1 || block + headers >= blocks) return false;
    const operation = await read(block + headers);
    return (operation.readUInt8(9) & UNMOUNT_FLAG) !== 0;
  }
  return false;
}
