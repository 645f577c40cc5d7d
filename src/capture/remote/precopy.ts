import { type Clock, isFailure, MIB, noProgress, type OnProgress } from '../../base/index.ts';
import { type Extent, totalBytes } from '../../bytes/index.ts';
import type { SnapshotPass, SnapshotSource } from '../snapshot-source.ts';
import type { DeviceSession } from './device-session.ts';
import type { Mirror } from './mirror.ts';
import type { MirroredReader } from './mirrored-reader.ts';

/** Rounds in which a live device tells what changed. */
const MAX_LIVE_ROUNDS = 2;
/** What a busy system writes while everything is fetched in less is little. */
const SHORT_MS = 5000;
/** A round that brought less leaves little for the freeze. */
const LITTLE_BYTES = 64 * MIB;

/** What a pre-copy works with. */
export interface PrecopySetup {
  readonly session: DeviceSession;
  /** Writes back what the filesystems hold. */
  readonly sync: () => Promise<void>;
  readonly clock: Clock;
  readonly mirror: Mirror;
  /** What `snapshot` reads through. */
  readonly reader: MirroredReader;
  readonly snapshot: Pick<SnapshotSource, 'pass'>;
  /** How much one answer brings while nothing is frozen. */
  readonly liveBatchBytes?: number | undefined;
  readonly onProgress?: OnProgress | undefined;
  readonly onLiveEnd?: (() => void) | undefined;
}

/**
 * Fetches what is allocated while the device is in use, freezes it only to learn what changed, and
 * ends the session before the snapshot is handed out.
 *
 * @see docs/capture.md "Pre-copy over ssh"
 */
export class Precopy {
  readonly #setup: PrecopySetup;
  #liveExtents: readonly Extent[] | undefined;
  #onAnswer: (lengthBytes: number) => void = () => undefined;

  constructor(setup: PrecopySetup) {
    this.#setup = setup;
  }

  /** Tells what a live pass found, so that its map need not be read again. */
  saw(extents: readonly Extent[]): void {
    this.#liveExtents = extents;
  }

  /** Hears of each answer of the device that the mirror got. */
  answered(lengthBytes: number): void {
    this.#onAnswer(lengthBytes);
  }

  /**
   * Takes the snapshot; when this returns, the device is thawed and the session is over.
   *
   * @throws IngotError what a frozen pass throws, `target-full` for the spool
   */
  async frozenPass(): Promise<SnapshotPass> {
    const { session, mirror, reader, snapshot } = this.#setup;
    await this.#copyLive();
    this.#setup.onLiveEnd?.();
    reader.willFreeze();
    const frozen = await snapshot.pass('frozen');
    try {
      await mirror.complete(frozen.extents);
    } finally {
      await frozen.end();
    }
    await session.end();
    const { sizeBytes, extents, fileExtents, originBytes } = frozen;
    return {
      kind: 'frozen',
      sizeBytes,
      extents,
      fileExtents,
      originBytes,
      read: async (offsetBytes, lengthBytes) => {
        const bytes = Buffer.allocUnsafe(lengthBytes);
        await mirror.readInto(offsetBytes, bytes);
        return bytes;
      },
      lend: (offsetBytes, lengthBytes) => mirror.lend(offsetBytes, lengthBytes),
      // What lies between extents reads as zeros: the mirror has all of them.
      readInto: async (offsetBytes, target) => {
        await mirror.readInto(offsetBytes, target);
      },
      end: () => Promise.resolve(),
    };
  }

  async #copyLive(): Promise<void> {
    const { mirror, clock, liveBatchBytes } = this.#setup;
    const startedAt = clock.monotonic();
    await this.#shown('comparing what came over before', mirror.lengthBytes, () => mirror.recall());
    const extents = this.#liveExtents ?? (await this.#readLiveExtents());
    await this.#shown('copying the live filesystem', totalBytes(extents), () =>
      mirror.complete(extents, liveBatchBytes),
    );
    if (clock.monotonic() - startedAt >= SHORT_MS) await this.#refreshLive();
    this.#onAnswer = () => undefined;
  }

  async #refreshLive(): Promise<void> {
    const { sync, mirror } = this.#setup;
    for (let round = 1; round <= MAX_LIVE_ROUNDS; round++) {
      await sync();
      const changedBytes = await this.#shown('asking what changed', mirror.lengthBytes, () =>
        mirror.refresh(),
      );
      if (changedBytes < LITTLE_BYTES) return;
    }
  }

  /** A map that changes while it is read may look broken: then everything waits for the freeze. */
  async #readLiveExtents(): Promise<readonly Extent[]> {
    try {
      const live = await this.#setup.snapshot.pass('live');
      await live.end();
      return live.extents;
    } catch (thrown) {
      if (isFailure(thrown, 'filesystem-malformed')) return [];
      throw thrown;
    }
  }

  async #shown<T>(stage: string, total: number, work: () => Promise<T>): Promise<T> {
    const { onProgress = noProgress } = this.#setup;
    let doneBytes = 0;
    this.#onAnswer = (lengthBytes) => {
      doneBytes = Math.min(total, doneBytes + lengthBytes);
      onProgress({ doneBytes, totalBytes: total, stage });
    };
    return await work();
  }
}
