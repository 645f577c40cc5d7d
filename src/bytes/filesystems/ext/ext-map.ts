import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { type ExtAllocation, readExtAllocation } from './allocation.ts';
import { BlockMapper, isInodeIntact } from './block-mapper.ts';
import { type ExtGroups, firstCopyOffset, inodeTableBlocks, readExtGroups } from './groups.ts';
import { type ExtFiles, readExtFiles, readExtInode } from './inodes.ts';
import {
  type ExtSuperblock,
  extName,
  hasSameGeometry,
  parseExtSuperblock,
  SUPERBLOCK,
} from './superblock.ts';

const JBD2_MAGIC = 0xc03b3998;

/** How a map of an ext filesystem is made. */
export interface ExtMapOptions {
  readonly state: DiskState;
  /**
   * Whether allocated blocks whose content means nothing are left out: the clean journal, tails of
   * inode tables that were never written, unwritten extents.
   */
  readonly dropsStale: boolean;
}

/**
 * Maps an ext2, ext3 or ext4 filesystem.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readExtMap(
  disk: MetadataReader,
  options: ExtMapOptions,
): Promise<FilesystemMap> {
  const bytes = await disk.read(SUPERBLOCK.offsetBytes, SUPERBLOCK.lengthBytes, 'the superblock');
  const name = extName(bytes);
  let sb: ExtSuperblock;
  let groups: ExtGroups;
  try {
    sb = parseExtSuperblock(bytes, disk.sizeBytes);
    await checkCopy(disk, sb, bytes);
    groups = await readExtGroups(disk, sb);
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return wholeMap(name, disk.sizeBytes, [`${name}: ${thrown.message}: everything is copied`]);
  }
  const doubt = reasonToDoubt(sb, options.state);
  const files = await readExtFiles(disk, sb, groups.groups);
  if (doubt !== undefined) {
    const whole = wholeMap(name, disk.sizeBytes, [`${name}: ${doubt}: everything is copied`]);
    return { ...whole, fileExtents: files.fileExtents };
  }
  const checkCounts = options.state !== 'live';
  const allocation = await readExtAllocation(disk, sb, groups, { checkCounts });
  let allocated = allocation.used;
  if (options.dropsStale) {
    const stale = await staleRuns(disk, sb, groups, files);
    allocated = allocated.without(stale.without(files.claimed));
  }
  return {
    filesystem: name,
    allocated,
    fileExtents: files.fileExtents,
    notices: noticesOf(name, allocation, files),
  };
}

/** A superblock without a checksum must have a copy that says the same. */
async function checkCopy(disk: MetadataReader, sb: ExtSuperblock, bytes: Buffer): Promise<void> {
  if (sb.checksums === 'crc32c') return;
  const offset = firstCopyOffset(sb);
  if (offset === undefined) return;
  const copy = await disk.read(offset, SUPERBLOCK.lengthBytes, 'a copy of the superblock');
  if (!hasSameGeometry(bytes, copy)) throw malformed('its superblock is not that of its copy');
}

/** Why the bitmaps may not be true, or undefined. */
function reasonToDoubt(sb: ExtSuperblock, state: DiskState): string | undefined {
  if (sb.hasErrors) return 'it is marked as having errors';
  if (sb.needsRecovery && state !== 'live') return 'the journal needs recovery';
  // Without a journal the mark is missing while it is mounted, frozen or not.
  if (!sb.isMarkedClean && sb.journalInode === 0 && state === 'at-rest') {
    return 'it was not unmounted cleanly';
  }
  return undefined;
}

function noticesOf(name: string, allocation: ExtAllocation, files: ExtFiles): string[] {
  const notices: string[] = [];
  const { doubt, doubtfulGroups } = allocation;
  if (doubt !== undefined) {
    notices.push(`${name}: ${doubt}: ${doubtfulGroups} block groups are copied whole`);
  }
  if (allocation.used.grainBytes > 0) {
    const grain = allocation.used.grainBytes;
    notices.push(`${name}: free space is scattered: pieces up to ${grain} bytes are copied`);
  }
  if (files.fileExtents === undefined) {
    notices.push(`${name}: its inodes contradict each other: cut by content`);
  } else if (files.damagedInodes > 0) {
    notices.push(
      `${name}: ${files.damagedInodes} inodes are damaged: their files are cut by content`,
    );
  }
  return notices;
}

/** Collects allocated blocks whose content means nothing. */
async function staleRuns(
  disk: MetadataReader,
  sb: ExtSuperblock,
  { groups }: ExtGroups,
  files: ExtFiles,
): Promise<RunList> {
  const stale = new RunList('forget-short');
  stale.addAll(files.unwritten);
  const addBlocks = (start: number, end: number): void =>
    stale.add(start * sb.blockBytes, end * sb.blockBytes);
  const tableBlocks = inodeTableBlocks(sb);
  for (const group of groups) {
    if (group === undefined || sb.checksums === 'none') continue;
    const used = Math.ceil((group.usedInodes * sb.inodeBytes) / sb.blockBytes);
    addBlocks(group.inodeTable + used, group.inodeTable + tableBlocks);
    // Bitmaps of such a group were never written either.
    if (group.isBitmapUninitialised) addBlocks(group.blockBitmap, group.blockBitmap + 1);
    if (group.areInodesUninitialised) addBlocks(group.inodeBitmap, group.inodeBitmap + 1);
  }
  for (const run of await journalRuns(disk, sb, groups)) addBlocks(...run);
  return stale;
}

/** The blocks of a clean journal behind its first one; none on any doubt. */
async function journalRuns(
  disk: MetadataReader,
  sb: ExtSuperblock,
  groups: ExtGroups['groups'],
): Promise<(readonly [number, number])[]> {
  if (sb.journalInode === 0 || sb.needsRecovery) return [];
  try {
    const inode = await readExtInode(disk, sb, groups, sb.journalInode);
    if (inode === undefined || !isInodeIntact(sb, inode)) return [];
    // A journal on a block map (ext3) would have its map's blocks between its own.
    const hasExtents = (inode.bytes.readUInt32LE(0x20) & 0x80000) !== 0;
    if (!hasExtents) return [];
    const [first, ...rest] = await new BlockMapper(disk, sb).map(inode, []);
    if (first?.logical !== 0 || [first, ...rest].some((run) => run.isUnwritten)) return [];
    const head = await disk.read(first.physical * sb.blockBytes, 1024, 'the journal');
    const isJournal = head.readUInt32BE(0) === JBD2_MAGIC && [3, 4].includes(head.readUInt32BE(4));
    const isClean = head.readUInt32BE(0x1c) === 0;
    if (!isJournal || !isClean) return [];
    const behindHead = [first.physical + 1, first.physical + first.blocks] as const;
    const runs = rest.map((run) => [run.physical, run.physical + run.blocks] as const);
    return [behindHead, ...runs];
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return [];
  }
}
