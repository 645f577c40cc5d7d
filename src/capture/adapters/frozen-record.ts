import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import { FROZEN_RECORDS } from '../freeze.ts';
import { type MountEntry, parseMountInfo } from '../mount-table.ts';
import { thawFilesystem } from './libc.ts';
import { diskSequenceOf, mountOf, superBlockOf } from './mount-lookup.ts';

/** A process by number and start, so that a number used again is not taken for it. */
interface ProcessStamp {
  readonly pid: number;
  readonly startTicks: string;
}

/** What stands in a record: enough to find and thaw a filesystem without the processes. */
interface FrozenRecord {
  readonly version: 1;
  readonly bootId: string;
  /** Where the numbers of the processes count: `pid:[4026531836]`. */
  readonly pidNamespace?: string | undefined;
  readonly capture: ProcessStamp;
  readonly guard: ProcessStamp;
  readonly writtenAt: string;
  readonly mounts: readonly FrozenMount[];
}

interface FrozenMount {
  readonly mountPoint: string;
  /** `major:minor` of the filesystem. */
  readonly device: string;
  /** The attachment of its disk: the number may be another disk's by the time it is read. */
  readonly diskSequence?: string | undefined;
}

/** The namespace of the machine's first process, which sees all others (linux/proc_ns.h). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** @returns when a process started, in clock ticks since boot, or undefined when there is none */
function startTicks(pid: number): string | undefined {
  try {
    // The command's name may hold blanks and brackets; what follows its last bracket does not.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : rest[18];
  } catch {
    return undefined;
  }
}

function pidNamespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined; // The process has ended.
  }
}

/**
 * Tells whether a record is a leftover: its capture and its guard are gone.
 *
 * Numbers of another namespace say nothing here. From the first one it can be seen whether anybody
 * of that namespace lives: then it is left to them. From anywhere else it cannot.
 */
function isLeftover({ pidNamespace, capture, guard }: FrozenRecord): boolean {
  const own = pidNamespaceOf('self');
  if (pidNamespace === undefined || pidNamespace === own) {
    return ![capture, guard].some((stamp) => startTicks(stamp.pid) === stamp.startTicks);
  }
  if (own !== FIRST_PID_NAMESPACE) return false;
  return !processes().some((pid) => pidNamespaceOf(pid) === pidNamespace);
}

function processes(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
}

/**
 * Records what is about to freeze.
 *
 * @returns removes the record
 */
export function recordFreeze(
  {
    guardPid,
    mounts,
  }: {
    readonly guardPid: number;
    /** `fd`: any descriptor on the filesystem. */
    readonly mounts: readonly {
      readonly fd: number;
      readonly mountPoint: string;
      readonly device: string;
    }[];
  },
  folder: string = FROZEN_RECORDS,
): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const record: FrozenRecord = {
    version: 1,
    bootId: bootId(),
    pidNamespace: pidNamespaceOf('self'),
    capture: { pid: process.pid, startTicks: startTicks(process.pid) ?? '' },
    guard: { pid: guardPid, startTicks: startTicks(guardPid) ?? '' },
    writtenAt: new Date().toISOString(),
    mounts: mounts.map(({ fd, mountPoint, device }): FrozenMount => {
      const entry = mountOf(fd);
      const diskSequence = entry === undefined ? undefined : diskSequenceOf(entry);
      return { mountPoint, device, diskSequence };
    }),
  };
  const path = join(folder, `${process.pid}-${guardPid}.json`);
  writeFileSync(path, JSON.stringify(record), { flag: 'wx', mode: 0o600 });
  return () => rmSync(path, { force: true });
}

function parseRecord(path: string): FrozenRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(path, 'utf8')) as Partial<FrozenRecord>;
    const isWhole =
      record.version === 1 &&
      typeof record.bootId === 'string' &&
      typeof record.capture?.pid === 'number' &&
      typeof record.guard?.pid === 'number' &&
      Array.isArray(record.mounts);
    return isWhole ? (record as FrozenRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** Every path by which some process reaches a filesystem; root sees all of them. */
function* pathsTo(
  device: string,
): Generator<{ readonly path: string; readonly entry: MountEntry }> {
  const seen = new Set<string>();
  for (const pid of ['self', ...processes()]) {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
    } catch {
      continue; // The process has ended, or belongs to the kernel.
    }
    // Processes of one mount namespace have the same table.
    if (seen.has(text)) continue;
    seen.add(text);
    for (const entry of parseMountInfo(text)) {
      if (entry.device !== device) continue;
      yield { path: `/proc/${pid}/root${entry.mountPoint}`, entry };
    }
  }
}

/**
 * Thaws one filesystem that a record names, through any mount of it that can be reached, also in
 * other mount namespaces.
 *
 * @returns `not-mounted` also when its number is that of another disk by now; `unreachable` when it
 *   is mounted and every mount of it is covered
 */
function thawMount({
  device,
  diskSequence,
}: FrozenMount): 'thawed' | 'not-frozen' | 'not-mounted' | 'unreachable' {
  let isMounted = false;
  for (const { path, entry } of pathsTo(device)) {
    // What is frozen on a disk that came later was frozen by somebody else, who wants it so.
    if (diskSequence !== undefined && diskSequenceOf(entry) !== diskSequence) continue;
    isMounted = true;
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch {
      continue; // This mount is covered or gone; another one may do.
    }
    try {
      if (superBlockOf(fd) !== device) continue;
      const errno = thawFilesystem(fd);
      if (errno === undefined) return 'thawed';
      if (errno === 'EINVAL') return 'not-frozen';
    } finally {
      closeSync(fd);
    }
  }
  return isMounted ? 'unreachable' : 'not-mounted';
}

/**
 * Thaws what captures left frozen whose process and whose guard were both killed.
 *
 * Cheap when there is nothing: one attempt to list a folder. Records of living captures stay, as
 * do those whose filesystem is mounted and cannot be reached.
 *
 * @returns mount points that were thawed
 */
export function recoverFrozen(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT' || errnoOf(thrown) === 'EACCES') return [];
    throw thrown;
  }
  const thawed: string[] = [];
  for (const name of names) {
    const path = join(folder, name);
    const record = parseRecord(path);
    if (record === undefined || record.bootId !== bootId()) {
      rmSync(path, { force: true });
      continue;
    }
    if (!isLeftover(record)) continue;
    let isDone = true;
    for (const mount of record.mounts) {
      const result = thawMount(mount);
      if (result === 'thawed') thawed.push(mount.mountPoint);
      if (result === 'unreachable') isDone = false;
    }
    if (isDone) rmSync(path, { force: true });
  }
  return thawed;
}
