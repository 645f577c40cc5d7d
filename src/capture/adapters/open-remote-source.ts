import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IngotError, type OnProgress, systemClock } from '../../base/index.ts';
import { type Extent, readDiskMap, type WireCodec } from '../../bytes/index.ts';
import type { DiskReader } from '../disk-reader.ts';
import { DiskSnapshot, type DiskSnapshotParts } from '../disk-snapshot.ts';
import type { FreezeLimits } from '../freeze.ts';
import type { MountEntry } from '../mount-table.ts';
import { type DeviceFacts, parseDeviceFacts, parseDeviceProvides } from '../remote/device-facts.ts';
import type { DeviceSession, FreezePlan, SumTool } from '../remote/device-session.ts';
import { locateRemote, type RemoteSource, snapshotPlan } from '../remote/locate-remote.ts';
import { type AskPassword, logIn, SESSION_COMMAND } from '../remote/log-in.ts';
import { Mirror } from '../remote/mirror.ts';
import { MirroredReader } from '../remote/mirrored-reader.ts';
import { LARGE_BATCH_BYTES } from '../remote/plan-batches.ts';
import { Precopy } from '../remote/precopy.ts';
import { RemoteGuard } from '../remote/remote-guard.ts';
import { RemoteReader } from '../remote/remote-reader.ts';
import type { MirrorSpool } from '../remote/spool-records.ts';
import { parseSshTarget } from '../remote/ssh-target.ts';
import type { CaptureFacts, SnapshotPass, SnapshotSource } from '../snapshot-source.ts';
import { filesystemsBelowPath } from './mount-lookup.ts';
import type { ForbiddenPath } from './open-snapshot-source.ts';
import { openSshChannel } from './ssh-channel.ts';

const DEVICE_SCRIPT = join(import.meta.dirname, 'device-script.sh');
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** What to capture from a device, and how. */
export interface RemoteRequest {
  /** `ssh://[user@]host[:port]`. */
  readonly url: string;
  /** A folder or block device on the device. */
  readonly source: string;
  /** Arguments for ssh, before our own. */
  readonly sshArguments: readonly string[];
  readonly freeSpace: 'zero' | 'keep';
  /** False: what is mounted is read as it changes. */
  readonly freeze: boolean;
  readonly limits: FreezeLimits;
  /** How bytes are coded on the way; `auto`: the best that the device has. */
  readonly wire: WireCodec | 'auto';
  /**
   * Opens a spool for a pre-copy, so that the freeze is short; undefined: one frozen pass. It must
   * not lie on what freezes: name its folder among `forbiddenPaths`.
   */
  readonly openSpool?: (() => Promise<MirrorSpool>) | undefined;
  /** True: refuse a source that would not go through the spool. */
  readonly mustSpool?: boolean | undefined;
  /** Hears of a pre-copy. Nothing is said while something is frozen. */
  readonly onProgress?: OnProgress | undefined;
  /** Called when that is over, and once more when the source is disposed. */
  readonly onLiveEnd?: (() => void) | undefined;
  readonly askPassword: AskPassword;
  /** What is written here while the device is frozen: refused when the device is this machine. */
  readonly forbiddenPaths: readonly ForbiddenPath[];
  /** Ends the session at once; the device thaws then. */
  readonly signal: AbortSignal;
}

function chooseCodec(wanted: WireCodec | 'auto', tools: ReadonlySet<string>): WireCodec {
  if (wanted === 'auto') return tools.has('zstd') ? 'zstd' : tools.has('gzip') ? 'gzip' : 'none';
  const isThere =
    wanted === 'none' || tools.has(wanted) || (wanted === 'gzip' && tools.has('pigz'));
  if (!isThere) throw new IngotError('tool-missing', `the device has no ${wanted}`);
  return wanted;
}

/** ssh to this very machine: a target on the filesystem that freezes would wait for ever. */
function refuseTargetsHere(
  bootId: string,
  mounts: readonly MountEntry[],
  forbidden: readonly ForbiddenPath[],
): void {
  if (readFileSync(BOOT_ID, 'utf8').trim() !== bootId) return;
  for (const { label, path } of forbidden) {
    const below = filesystemsBelowPath(path);
    const mount = mounts.find(({ device }) => below.has(device));
    if (mount !== undefined) {
      throw new IngotError(
        'target-would-freeze',
        `${label} is written to the filesystem at ${mount.mountPoint}, which would be frozen`,
        { label, mountPoint: mount.mountPoint },
      );
    }
  }
}

function freezePlan(located: RemoteSource): FreezePlan {
  const { volume, mounts, sizeBytes } = located;
  if (volume === undefined) return { kind: 'mounts', mounts };
  return snapshotPlan(volume, sizeBytes);
}

/** Pages of the device's cache are dropped as a whole, or not at all. */
const PAGE_BYTES = 4096;

/** What a session on a device consists of while it is captured. */
interface Opened {
  readonly session: DeviceSession;
  readonly located: RemoteSource;
  readonly facts: DeviceFacts;
}

/** Looks whether the device can be read and frozen at all. */
async function openDevice(
  { session, located, facts }: Opened,
  request: RemoteRequest,
): Promise<RemoteReader> {
  const { isDirect, blockBytes, sectorBytes } = await session.open(located.devicePath);
  if (!isDirect && !facts.tools.has('blockdev')) {
    throw new IngotError(
      'tool-missing',
      'dd on the device cannot read past its cache, and there is no blockdev to drop it',
    );
  }
  if (!isDirect && located.mounts.length > 0 && blockBytes < PAGE_BYTES) {
    // A page with one block of pinned metadata is never dropped, nor is what is stale beside it.
    throw new IngotError(
      'remote-refused',
      `dd on the device cannot read past its cache, which is not to be trusted with blocks of ${blockBytes} bytes`,
    );
  }
  const willFreeze = request.freeze && located.mounts.length > 0;
  if (willFreeze && located.volume === undefined && !facts.tools.has('fsfreeze')) {
    throw new IngotError('tool-missing', 'the device has no fsfreeze (util-linux or busybox)');
  }
  return new RemoteReader(session, {
    sizeBytes: located.sizeBytes,
    codec: chooseCodec(request.wire, facts.tools),
    isDirect,
    sectorBytes,
  });
}

function openGuard({ session, located }: Opened, request: RemoteRequest): RemoteGuard | undefined {
  if (!request.freeze || located.mounts.length === 0) return undefined;
  return new RemoteGuard(session, {
    plan: freezePlan(located),
    limits: request.limits,
    clock: systemClock,
    onSnapshot: async (devicePath) => {
      await session.open(devicePath);
    },
  });
}

/** Whether what is frozen is fetched before: where it is held up, and the device has a digest. */
function precopyTool({ located, facts }: Opened, request: RemoteRequest): SumTool | undefined {
  if (!request.freeze || located.mounts.length === 0 || located.volume !== undefined) {
    return undefined;
  }
  // BLAKE2b takes a third of the time of SHA-256 where the processor has no instructions for that.
  return (['b2sum', 'sha256sum'] as const).find((tool) => facts.tools.has(tool));
}

async function syncMounts({ session, located }: Omit<Opened, 'facts'>): Promise<void> {
  for (const { mountPoint } of located.mounts) await session.sync(mountPoint);
}

function snapshotParts(
  { session, located }: Opened,
  request: RemoteRequest,
  { reader, guard, plan }: Readers,
): Omit<DiskSnapshotParts, 'owned'> {
  return {
    reader,
    guard,
    sync: () => syncMounts({ session, located }),
    readMap: async (disk, state) => {
      const map = await readDiskMap(disk, { state, sectorBytes: reader.sectorBytes });
      // A live pass of a mounted source is only looked at; the last one is read whole.
      const whole = [{ offsetBytes: 0, lengthBytes: reader.sizeBytes }];
      if (state !== 'live') plan(request.freeSpace === 'keep' ? whole : map.allocated);
      return map;
    },
    freeSpace: request.freeSpace,
    unguarded: located.mounts.length > 0 ? 'none' : 'crash-consistent',
    isMounted: located.mounts.length > 0,
    source: `${request.url}${located.mounts[0]?.mountPoint ?? located.devicePath}`,
    notices: located.notices,
  };
}

/** What a snapshot of a device reads through, and freezes with. */
interface Readers {
  readonly reader: DiskReader;
  readonly guard: RemoteGuard | undefined;
  /** Hears what the last pass will read. */
  readonly plan: (extents: readonly Extent[]) => void;
}

/** Makes the snapshot of an opened device, with a pre-copy where that shortens a freeze. */
async function openSnapshot(
  opened: Opened,
  request: RemoteRequest,
  undo: AsyncDisposableStack,
): Promise<RemoteSnapshot> {
  const { session, facts } = opened;
  const remote = await openDevice(opened, request);
  const guard = openGuard(opened, request);
  if (guard !== undefined) undo.use(guard);
  const tool = precopyTool(opened, request);
  if (request.openSpool === undefined || tool === undefined) {
    if (request.mustSpool === true) {
      throw new IngotError(
        'request-invalid',
        'a pull can be gone on with only where something is frozen (and no LVM snapshot taken), and the device has b2sum or sha256sum',
      );
    }
    const plan = (extents: readonly Extent[]): void => remote.plan(extents);
    const parts = snapshotParts(opened, request, { reader: remote, guard, plan });
    const snapshot = new DiskSnapshot({ ...parts, owned: undo.move() });
    return new RemoteSnapshot(snapshot, { session, arch: facts.arch });
  }
  const spool = undo.use(await request.openSpool());
  undo.defer(() => request.onLiveEnd?.());
  const { sizeBytes } = remote;
  const isTracked = await session.trackWrites();
  const mirror = new Mirror({
    session,
    sizeBytes,
    changes: isTracked ? () => session.written(sizeBytes) : undefined,
    codec: chooseCodec(request.wire, facts.tools),
    tool,
    spool,
    onAnswer: (lengthBytes) => {
      guard?.progressed();
      precopy.answered(lengthBytes);
    },
  });
  const reader = new MirroredReader(remote, mirror);
  const parts = snapshotParts(opened, request, { reader, guard, plan: () => undefined });
  const snapshot = new DiskSnapshot({ ...parts, owned: undo.move() });
  const { onProgress, onLiveEnd } = request;
  // Digests are made of whole batches, as are those of a pull that goes on: small ones lose less.
  const isLarge = isTracked && request.mustSpool !== true;
  const precopy = new Precopy({
    session,
    sync: () => syncMounts(opened),
    clock: systemClock,
    mirror,
    reader,
    snapshot,
    liveBatchBytes: isLarge ? LARGE_BATCH_BYTES : undefined,
    onProgress,
    onLiveEnd,
  });
  return new RemoteSnapshot(snapshot, { session, arch: facts.arch, precopy, spool });
}

/** A snapshot whose last pass also ends the session, so that a stream that was cut is no success. */
class RemoteSnapshot implements CapturedDevice {
  /** The device's architecture as `uname -m` has it. */
  readonly arch: string;
  readonly sizeBytes: number;
  /** Each pass would bring every byte over the link again; a pre-copy asks for what changed. */
  readonly mayChange = false;
  readonly #snapshot: DiskSnapshot;
  readonly #session: DeviceSession;
  readonly #precopy: Precopy | undefined;
  readonly #spool: MirrorSpool | undefined;

  constructor(
    snapshot: DiskSnapshot,
    setup: {
      readonly session: DeviceSession;
      readonly arch: string;
      readonly precopy?: Precopy;
      readonly spool?: MirrorSpool;
    },
  ) {
    this.arch = setup.arch;
    this.#snapshot = snapshot;
    this.#session = setup.session;
    this.#precopy = setup.precopy;
    this.#spool = setup.spool;
    this.sizeBytes = snapshot.sizeBytes;
  }

  async pass(kind: 'live' | 'frozen'): Promise<SnapshotPass> {
    if (kind === 'frozen' && this.#precopy !== undefined) return await this.#precopy.frozenPass();
    const pass = await this.#snapshot.pass(kind);
    if (kind === 'live') this.#precopy?.saw(pass.extents);
    let isOver = false;
    return {
      kind,
      sizeBytes: pass.sizeBytes,
      extents: pass.extents,
      fileExtents: pass.fileExtents,
      originBytes: pass.originBytes,
      freeze: pass.freeze,
      read: (offsetBytes, lengthBytes) => pass.read(offsetBytes, lengthBytes),
      lend: async (offsetBytes, lengthBytes) => pass.lend?.(offsetBytes, lengthBytes),
      readInto: (offsetBytes, target) => pass.readInto(offsetBytes, target),
      end: async () => {
        if (isOver) return;
        isOver = true;
        await pass.end();
        if (kind === 'frozen') await this.#session.end();
      },
    };
  }

  async delivered(): Promise<void> {
    await this.#spool?.remove?.();
  }

  async provides(): Promise<ReadonlyMap<string, string>> {
    return parseDeviceProvides(await this.#session.provides());
  }

  facts(): CaptureFacts {
    return this.#snapshot.facts();
  }

  notices(): readonly string[] {
    return this.#snapshot.notices();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#snapshot[Symbol.asyncDispose]();
  }
}

/** A snapshot source on another machine. */
export interface CapturedDevice extends SnapshotSource {
  /** The device's architecture as `uname -m` has it. */
  readonly arch: string;
  /**
   * Asks the device's Mender client what is installed: the values of `rootfs-image.…`. Before a pass.
   *
   * @returns nothing where there is no client
   */
  provides(): Promise<ReadonlyMap<string, string>>;
  /** Tells that the image is safe, so that nobody will go on with this pull. */
  delivered(): Promise<void>;
}

/**
 * Opens a filesystem or block device of another machine, over ssh, with nothing installed there.
 *
 * When it returns, the session runs as root and everything that a freeze needs is there; nothing is
 * frozen.
 *
 * @throws IngotError `request-invalid`, `ssh-failed`, `remote-refused`, `tool-missing`,
 *   `source-not-found`, `source-unsupported`, `target-would-freeze`
 */
export async function openRemoteSource(request: RemoteRequest): Promise<CapturedDevice> {
  const target = parseSshTarget(request.url);
  await using undo = new AsyncDisposableStack();
  const script = readFileSync(DEVICE_SCRIPT, 'utf8');
  const channel = openSshChannel(target, SESSION_COMMAND, request.sshArguments);
  const { askPassword, signal } = request;
  const hangUp = (): void => channel.closeInput();
  signal.addEventListener('abort', hangUp, { once: true });
  undo.defer(() => signal.removeEventListener('abort', hangUp));
  const session = undo.use(await logIn(channel, { script, askPassword, clock: systemClock }));
  const breakOff = (): void => session.breakOff(signal.reason);
  signal.addEventListener('abort', breakOff, { once: true });
  undo.defer(() => signal.removeEventListener('abort', breakOff));
  let facts: DeviceFacts | undefined;
  const located = await locateRemote(request.source, async (path) => {
    const seen = parseDeviceFacts(await session.look(path));
    facts ??= seen;
    return seen;
  });
  if (facts === undefined) throw new Error('the device was never looked at');
  if (request.freeze) refuseTargetsHere(facts.bootId, located.mounts, request.forbiddenPaths);
  return await openSnapshot({ session, located, facts }, request, undo);
}
