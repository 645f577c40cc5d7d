import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, systemClock } from '../../base/index.ts';
import type { DiskReader, LentBytes } from '../disk-reader.ts';
import type { FreezeGuard, FreezeLimits } from '../freeze.ts';
import { formatDeviceNumber } from '../mount-table.ts';
import { parseDeviceFacts } from '../remote/device-facts.ts';
import { snapshotPlan, volumeWithRoom } from '../remote/locate-remote.ts';
import { logIn, SESSION_COMMAND } from '../remote/log-in.ts';
import { RemoteGuard } from '../remote/remote-guard.ts';
import { openDirectReader } from './direct-reader.ts';
import { ProcessChannel } from './ssh-channel.ts';

const DEVICE_SCRIPT = join(import.meta.dirname, 'device-script.sh');

/** Whether a block device is an LVM volume. @see dmsetup(8), "LVM-" prefix of uuids */
export function isVolume(devicePath: string): boolean {
  const number = formatDeviceNumber(statSync(devicePath, { bigint: true }).rdev);
  try {
    return readFileSync(`/sys/dev/block/${number}/dm/uuid`, 'utf8').startsWith('LVM-');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return false;
    throw thrown;
  }
}

/** Reads a volume, and its snapshot as long as there is one. */
class VolumeReader implements DiskReader {
  readonly sizeBytes: number;
  readonly sectorBytes: number | undefined;
  readonly #volume: DiskReader;
  #snapshot: DiskReader | undefined;

  constructor(volume: DiskReader) {
    this.#volume = volume;
    this.sizeBytes = volume.sizeBytes;
    this.sectorBytes = volume.sectorBytes;
  }

  /** Reads a snapshot from now on. */
  async goTo(devicePath: string): Promise<void> {
    this.#snapshot = await openDirectReader(devicePath);
  }

  /** Goes back; nobody reads the snapshot any more, so that it can be removed. */
  async goBack(): Promise<void> {
    const snapshot = this.#snapshot;
    this.#snapshot = undefined;
    await snapshot?.[Symbol.asyncDispose]();
  }

  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#current.read(offsetBytes, lengthBytes);
  }

  readInto(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#current.readInto(offsetBytes, target);
  }

  allocate(lengthBytes: number): Buffer {
    return this.#current.allocate?.(lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes);
  }

  async lend(offsetBytes: number, lengthBytes: number): Promise<LentBytes | undefined> {
    return await this.#current.lend?.(offsetBytes, lengthBytes);
  }

  dropStale(): Promise<void> {
    return this.#current.dropStale();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.goBack();
    await this.#volume[Symbol.asyncDispose]();
  }

  get #current(): DiskReader {
    return this.#snapshot ?? this.#volume;
  }
}

/** Takes LVM's snapshot where a filesystem would be frozen, and removes it where it would thaw. */
class VolumeGuard implements FreezeGuard {
  readonly #guard: RemoteGuard;
  readonly #reader: VolumeReader;

  constructor(guard: RemoteGuard, reader: VolumeReader) {
    this.#guard = guard;
    this.#reader = reader;
  }

  freeze(): Promise<void> {
    return this.#guard.freeze();
  }

  progressed(): void {
    this.#guard.progressed();
  }

  check(): void {
    this.#guard.check();
  }

  async thaw(): Promise<number> {
    await this.#reader.goBack();
    return await this.#guard.thaw();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.goBack();
    await this.#guard[Symbol.asyncDispose]();
  }
}

/** A volume that is captured through a snapshot of its own. */
export interface OpenVolume extends AsyncDisposable {
  readonly reader: DiskReader;
  readonly guard: FreezeGuard;
}

/**
 * Prepares to capture an LVM volume through LVM's own snapshot, which holds its writers up for
 * milliseconds.
 *
 * The guard is the one of `snapshot pull`, in a shell of this machine: it removes the snapshot
 * whatever becomes of the capture.
 *
 * @param devicePath a volume with exactly one filesystem mounted
 * @returns undefined where lvm2 is not installed or the group has no room for a snapshot
 * @see docs/formats/pull-protocol.md "The guard"
 */
export async function openVolume(
  devicePath: string,
  limits: FreezeLimits,
): Promise<OpenVolume | undefined> {
  await using undo = new AsyncDisposableStack();
  const child = spawn('/bin/sh', ['-c', SESSION_COMMAND], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // A session of its own: a signal to the capture's process group does not reach it.
    detached: true,
    cwd: '/',
  });
  const session = undo.use(
    await logIn(new ProcessChannel('lvm', child), {
      script: readFileSync(DEVICE_SCRIPT, 'utf8'),
      askPassword: () => Promise.resolve(undefined),
      clock: systemClock,
    }),
  );
  const facts = parseDeviceFacts(await session.look(devicePath));
  const volume = volumeWithRoom(facts, facts.number);
  if (volume === undefined) return undefined;
  const reader = undo.use(new VolumeReader(await openDirectReader(devicePath)));
  const remote = new RemoteGuard(session, {
    plan: snapshotPlan(volume, reader.sizeBytes),
    limits,
    clock: systemClock,
    onSnapshot: (path) => reader.goTo(path),
  });
  const guard = undo.use(new VolumeGuard(remote, reader));
  const owned = undo.move();
  return { reader, guard, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
