import { type DirectoryEntry, takeName } from '../file-tree.ts';
import { malformed } from '../metadata-reader.ts';
import { isXfsChecksumRight, type XfsSuperblock } from './superblock.ts';

/** Behind this offset of a directory lie its index and its list of free space. */
export const DIRECTORY_DATA_BYTES = 2 ** 35;
const FREE_TAG = 0xffff;
/** A directory of one block has its index in that block, and its magic says so. */
const MAGICS = { single: ['XD2B', 'XDB3'], data: ['XD2D', 'XDD3'] } as const;

/**
 * Yields the entries of a directory that lies in its inode.
 *
 * @param bytes the inode's data fork
 * @throws IngotError `filesystem-malformed`
 */
export function* shortEntries(
  { hasFileTypes }: XfsSuperblock,
  bytes: Buffer,
  directory: number,
): Generator<DirectoryEntry, void, undefined> {
  const wideCount = bytes.readUInt8(1);
  const inodeBytes = wideCount > 0 ? 8 : 4;
  const count = wideCount > 0 ? Math.max(wideCount, bytes.readUInt8(0)) : bytes.readUInt8(0);
  let at = 2 + inodeBytes;
  for (let i = 0; i < count; i++) {
    if (at + 3 > bytes.length) throw malformed(`directory ${directory} has ${count} entries`);
    const nameEnd = at + 3 + bytes.readUInt8(at);
    const inodeAt = nameEnd + (hasFileTypes ? 1 : 0);
    if (inodeAt + inodeBytes > bytes.length) {
      throw malformed(`an entry of directory ${directory} is cut`);
    }
    const name = takeName(bytes.subarray(at + 3, nameEnd), directory);
    const inode =
      inodeBytes === 8 ? Number(bytes.readBigUInt64BE(inodeAt)) : bytes.readUInt32BE(inodeAt);
    if (name !== undefined) yield { name, inode };
    at = inodeAt + inodeBytes;
  }
}

/**
 * Yields the entries of a block of a directory.
 *
 * @throws IngotError `filesystem-malformed`
 */
export function* blockEntries(
  sb: XfsSuperblock,
  block: Buffer,
  directory: number,
): Generator<DirectoryEntry, void, undefined> {
  const end = endOfEntries(sb, block, directory);
  for (let at = sb.hasChecksums ? 64 : 16; at < end; ) {
    if (at + 12 > end) throw malformed(`an entry of directory ${directory} is cut`);
    if (block.readUInt16BE(at) === FREE_TAG) {
      const freeBytes = block.readUInt16BE(at + 2);
      if (freeBytes < 8 || freeBytes % 8 !== 0) {
        throw malformed(`directory ${directory} has ${freeBytes} free bytes`);
      }
      at += freeBytes;
      continue;
    }
    const nameBytes = block.readUInt8(at + 8);
    const entryBytes = Math.ceil((9 + nameBytes + (sb.hasFileTypes ? 1 : 0) + 2) / 8) * 8;
    if (at + entryBytes > end) throw malformed(`an entry of directory ${directory} is cut`);
    const name = takeName(block.subarray(at + 9, at + 9 + nameBytes), directory);
    if (name !== undefined) yield { name, inode: Number(block.readBigUInt64BE(at)) };
    at += entryBytes;
  }
}

/** Checks a block. @returns where its entries end */
function endOfEntries(sb: XfsSuperblock, block: Buffer, directory: number): number {
  const version = sb.hasChecksums ? 1 : 0;
  const magic = block.toString('latin1', 0, 4);
  const isSingle = magic === MAGICS.single[version];
  if (!isSingle && magic !== MAGICS.data[version]) {
    throw malformed(`a block of directory ${directory} has no magic`);
  }
  if (sb.hasChecksums) {
    const isOwn = Number(block.readBigUInt64BE(40)) === directory;
    if (!isOwn || !isXfsChecksumRight(block, 4)) {
      throw malformed(`a block of directory ${directory} has a wrong checksum or is another's`);
    }
  }
  if (!isSingle) return block.length;
  const indexed = block.readUInt32BE(block.length - 8);
  const end = block.length - 8 - indexed * 8;
  if (end < 16) throw malformed(`directory ${directory} has ${indexed} entries in a block`);
  return end;
}
