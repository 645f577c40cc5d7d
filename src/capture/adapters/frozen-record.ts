import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import { FROZEN_RECORDS } from '../freeze.ts';
import { parseMountInfo } from '../mount-table.ts';
import { thawFilesystem } from './libc.ts';
import { superBlockOf } from './mount-lookup.ts';

/** A process by number and start, so that a number used again is not taken for it. */
interface ProcessStamp {
  readonly pid: number;
  readonly startTicks: string;
}

/** What stands in a record: enough to find and thaw a filesystem without the processes. */
interface FrozenRecord {
  readonly version: 1;
  readonly bootId: string;
  readonly capture: ProcessStamp;
  readonly guard: ProcessStamp;
  readonly writtenAt: string;
  readonly mounts: readonly {
    readonly mountPoint: string;
    /** `major:minor` of the filesystem. */
    readonly device: string;
  }[];
}

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

function isAlive(stamp: ProcessStamp): boolean {
  return startTicks(stamp.pid) === stamp.startTicks;
}

/**
 * Records what is about to freeze.
 *
 * @returns removes the record
 */
export function recordFreeze(
  { guardPid, mounts }: { readonly guardPid: number; readonly mounts: FrozenRecord['mounts'] },
  folder: string = FROZEN_RECORDS,
): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const record: FrozenRecord = {
    version: 1,
    bootId: bootId(),
    capture: { pid: process.pid, startTicks: startTicks(process.pid) ?? '' },
    guard: { pid: guardPid, startTicks: startTicks(guardPid) ?? '' },
    writtenAt: new Date().toISOString(),
    mounts,
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
function* pathsTo(device: string): Generator<string> {
  const seen = new Set<string>();
  for (const pid of ['self', ...readdirSync('/proc').filter((name) => /^\d+$/.test(name))]) {
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
      if (entry.device === device) yield `/proc/${pid}/root${entry.mountPoint}`;
    }
  }
}

/**
 * Thaws one filesystem that a record names, through any mount of it that can be reached, also in
 * other mount namespaces.
 *
 * @returns `unreachable` when it is mounted and every mount of it is covered
 */
function thawDevice(device: string): 'thawed' | 'not-frozen' | 'not-mounted' | 'unreachable' {
  let isMounted = false;
  for (const path of pathsTo(device)) {
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
    if (isAlive(record.capture) || isAlive(record.guard)) continue;
    let isDone = true;
    for (const { device, mountPoint } of record.mounts) {
      const result = thawDevice(device);
      if (result === 'thawed') thawed.push(mountPoint);
      if (result === 'unreachable') isDone = false;
    }
    if (isDone) rmSync(path, { force: true });
  }
  return thawed;
}
