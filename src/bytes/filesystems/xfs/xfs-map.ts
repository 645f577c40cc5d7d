import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { FREE_SPACE_TREE, walkGroupTree } from './group-tree.ts';
import { readXfsFiles } from './inodes.ts';
import { isXfsLogClean } from './log.ts';
import {
  blocksOfGroup,
  isXfsChecksumRight,
  MAX_SECTOR_BYTES,
  parseXfsSuperblock,
  type XfsSuperblock,
} from './superblock.ts';

/** With more groups damaged it is no filesystem: a million failures would take a minute. */
const MAX_DOUBTFUL = 1024;

/** How a map of an XFS filesystem is made. */
export interface XfsMapOptions {
  readonly state: DiskState;
  /** Whether unwritten extents are left out although they are allocated. */
  readonly dropsStale: boolean;
}

/**
 * Maps an XFS filesystem: everything but what its free space trees list. The log is part of it.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readXfsMap(
  disk: MetadataReader,
  options: XfsMapOptions,
): Promise<FilesystemMap> {
  try {
    return await readBelievable(disk, options);
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return wholeMap('xfs', disk.sizeBytes, [`xfs: ${thrown.message}: everything is copied`]);
  }
}

async function readBelievable(
  disk: MetadataReader,
  { state, dropsStale }: XfsMapOptions,
): Promise<FilesystemMap> {
  const headBytes = Math.max(512, Math.min(MAX_SECTOR_BYTES, disk.sizeBytes));
  const head = await disk.read(0, headBytes, 'the superblock');
  const sb = parseXfsSuperblock(head, disk.sizeBytes);
  // A freeze writes all metadata, but leaves a record in the log for unlinked inodes.
  if (state === 'at-rest' && !(await isXfsLogClean(disk, sb))) {
    throw malformed('the log needs recovery');
  }
  const notices: string[] = [];
  const free = new RunList('forget-short');
  let doubtfulGroups = 0;
  let doubt = '';
  for (let group = 0; group < sb.groups; group++) {
    try {
      free.addAll(await readFreeSpace(disk, sb, group, state));
    } catch (thrown) {
      if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
      doubtfulGroups += 1;
      doubt ||= thrown.message;
      if (doubtfulGroups > MAX_DOUBTFUL) throw thrown;
    }
  }
  if (doubtfulGroups > 0) {
    notices.push(`xfs: ${doubt}: ${doubtfulGroups} allocation groups are copied whole`);
  }
  const files = await readXfsFiles(disk, sb);
  if (files.fileExtents === undefined) {
    notices.push('xfs: its inodes cannot be read: cut by content');
  } else if (files.damagedInodes > 0) {
    notices.push(`xfs: ${files.damagedInodes} inodes are damaged: their files are cut by content`);
  }
  const whole = new RunList('join-gaps');
  whole.add(0, disk.sizeBytes);
  const allocated = whole.without(free);
  return {
    filesystem: 'xfs',
    allocated: dropsStale ? allocated.without(files.unwritten) : allocated,
    fileExtents: files.fileExtents,
    notices,
  };
}

/** Reads the free space of one group; bytes of the filesystem. */
async function readFreeSpace(
  disk: MetadataReader,
  sb: XfsSuperblock,
  group: number,
  state: DiskState,
): Promise<RunList> {
  const start = group * sb.groupBlocks;
  const blocks = blocksOfGroup(sb, group);
  const at = start * sb.blockBytes + sb.sectorBytes;
  const agf = await disk.read(at, sb.sectorBytes, `the AGF of group ${group}`);
  const isRight =
    agf.toString('latin1', 0, 4) === 'XAGF' &&
    agf.readUInt32BE(8) === group &&
    agf.readUInt32BE(12) === blocks &&
    (!sb.hasChecksums || isXfsChecksumRight(agf, 216));
  if (!isRight) throw malformed(`the AGF of group ${group} is damaged`);
  const free = new RunList('forget-short');
  let total = 0;
  let end = 0;
  const root = { group, block: agf.readUInt32BE(16), levels: agf.readUInt32BE(28) };
  await walkGroupTree(disk, sb, FREE_SPACE_TREE, root, (record) => {
    const first = record.readUInt32BE(0);
    const count = record.readUInt32BE(4);
    if (first < end || count === 0 || first + count > blocks) {
      throw malformed(`the free space tree of group ${group} has ${count} blocks at ${first}`);
    }
    end = first + count;
    total += count;
    free.add((start + first) * sb.blockBytes, (start + end) * sb.blockBytes);
  });
  if (state !== 'live' && total !== agf.readUInt32BE(52)) {
    throw malformed(`group ${group} has ${total} free blocks, not ${agf.readUInt32BE(52)}`);
  }
  return free;
}
