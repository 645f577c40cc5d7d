import { type FileNode, kindOf } from '../file-tree.ts';
import { malformed } from '../metadata-reader.ts';
import type { ExtInode } from './block-mapper.ts';
import type { ExtSuperblock } from './superblock.ts';

/**
 * Reads the facts of an inode in use.
 *
 * @throws IngotError `filesystem-malformed`
 */
export function parseInode(sb: ExtSuperblock, raw: ExtInode): FileNode {
  const { number, bytes } = raw;
  const mode = bytes.readUInt16LE(0);
  const links = bytes.readUInt16LE(0x1a);
  const kind = kindOf(number, mode, links);
  const sizeBytes = bytes.readUInt32LE(0x4) + bytes.readUInt32LE(0x6c) * 2 ** 32;
  // No file has more blocks than 2^32, and none of them is above 64 KiB.
  if (sizeBytes > 2 ** 48) throw malformed(`inode ${number} has ${sizeBytes} bytes`);
  return {
    inode: number,
    kind,
    permissions: mode & 0o7777,
    userId: bytes.readUInt16LE(0x2) + bytes.readUInt16LE(0x78) * 2 ** 16,
    groupId: bytes.readUInt16LE(0x18) + bytes.readUInt16LE(0x7a) * 2 ** 16,
    sizeBytes,
    links,
    modifiedAtNs: timeAt(sb, bytes, { secondsAt: 0x10, extraAt: 0x88 }),
    changedAtNs: timeAt(sb, bytes, { secondsAt: 0xc, extraAt: 0x84 }),
    raw: bytes,
  };
}

/** A time has 32 bits, and in larger inodes 30 more for nanoseconds and 2 for centuries. */
function timeAt(
  sb: ExtSuperblock,
  bytes: Buffer,
  { secondsAt, extraAt }: { readonly secondsAt: number; readonly extraAt: number },
): bigint {
  const seconds = BigInt(bytes.readInt32LE(secondsAt));
  const hasExtra = sb.inodeBytes > 128 && 0x80 + bytes.readUInt16LE(0x80) >= extraAt + 4;
  if (!hasExtra) return seconds * 1_000_000_000n;
  const extra = bytes.readUInt32LE(extraAt);
  const epoch = BigInt(extra & 3) << 32n;
  return (seconds + epoch) * 1_000_000_000n + BigInt(extra >>> 2);
}

const XATTR_MAGIC = 0xea020000;
/** Index of the name space `system.`, in which inline data are kept as `data`. */
const XATTR_SYSTEM = 7;

/**
 * Gives what a file with inline data holds: 60 bytes in place of the block map, and the rest in the
 * extended attribute `system.data` behind the inode's fields.
 *
 * @throws IngotError `filesystem-malformed`
 */
export function inlineData(sb: ExtSuperblock, { number, bytes }: ExtInode): Buffer {
  const head = bytes.subarray(0x28, 0x64);
  if (sb.inodeBytes <= 128) return head;
  const start = 0x80 + bytes.readUInt16LE(0x80);
  if (start + 4 > bytes.length || bytes.readUInt32LE(start) !== XATTR_MAGIC) return head;
  const first = start + 4;
  // An entry has 16 bytes and its name; four zero bytes end the list.
  for (let at = first; at + 16 <= bytes.length && bytes.readUInt32LE(at) !== 0; ) {
    const nameBytes = bytes.readUInt8(at);
    const isData =
      bytes.readUInt8(at + 1) === XATTR_SYSTEM &&
      bytes.toString('latin1', at + 16, at + 16 + nameBytes) === 'data';
    if (isData) {
      const valueAt = first + bytes.readUInt16LE(at + 2);
      const valueBytes = bytes.readUInt32LE(at + 8);
      if (valueAt + valueBytes > bytes.length) {
        throw malformed(`the inline data of inode ${number} run over its end`);
      }
      return Buffer.concat([head, bytes.subarray(valueAt, valueAt + valueBytes)]);
    }
    at += 16 + Math.ceil(nameBytes / 4) * 4;
  }
  return head;
}
