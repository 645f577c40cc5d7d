import { type Clock, type FailureCode, isFailure, MIB } from '../base/index.ts';
import type { SnapshotPass, SnapshotSource } from './snapshot-source.ts';

/** Live passes before the frozen one. */
const MAX_LIVE_PASSES = 3;

/** A pass that brought less leaves so little for the frozen one that memory holds it. */
const LITTLE_BYTES = 64 * MIB;

/** What a busy system writes during a shorter pass is little. */
const SHORT_PASS_MS = 15_000;

/** A live filesystem may look broken while it changes under its reader. The frozen one may not. */
const LIVE_TROUBLE: readonly FailureCode[] = [
  'filesystem-malformed',
  'source-truncated',
  'source-unreadable',
];

/** What is done with live passes. */
export interface LiveReading {
  readonly clock: Clock;
  /** Brings what a pass reads to the target. Turns are counted from 1. */
  read(pass: SnapshotPass, turn: number): Promise<void>;
  /** Called after each pass, also after one that was broken off: finishes what it began. */
  settle(): Promise<void>;
  /** All bytes so far that the target did not have, in all passes. */
  changedBytes(): number;
}

/**
 * Reads a source in use until little changes, three times at most, so that its frozen pass has
 * little left to bring.
 *
 * A pass that finds the source broken, as a changing one may look, only ends the reading.
 */
export async function readLivePasses(source: SnapshotSource, reading: LiveReading): Promise<void> {
  for (let turn = 1; turn <= MAX_LIVE_PASSES; turn++) {
    const startedAt = reading.clock.monotonic();
    const changedBefore = reading.changedBytes();
    const isWhole = await readOne(source, reading, turn);
    await reading.settle();
    if (!isWhole) return;
    // All of the first pass is new, so only its length tells how much changed meanwhile.
    const isCalm =
      turn === 1
        ? reading.clock.monotonic() - startedAt < SHORT_PASS_MS
        : reading.changedBytes() - changedBefore < LITTLE_BYTES;
    if (isCalm) return;
  }
}

/** @returns false when the source looked broken */
async function readOne(
  source: SnapshotSource,
  reading: LiveReading,
  turn: number,
): Promise<boolean> {
  try {
    await using undo = new AsyncDisposableStack();
    const pass = await source.pass('live');
    undo.defer(() => pass.end());
    await reading.read(pass, turn);
    return true;
  } catch (thrown) {
    if (LIVE_TROUBLE.some((code) => isFailure(thrown, code))) return false;
    throw thrown;
  }
}
