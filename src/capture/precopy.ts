import type { Clock, OnProgress } from '../base/index.ts';
import { type Extent, totalBytes } from '../bytes/index.ts';
import { type BlockPiece, blockPieces } from './block-pieces.ts';
import { CopiedBlocks } from './copied-blocks.ts';
import type { PositionedTarget, WriteWatch } from './dump-target.ts';
import { readLivePasses } from './live-passes.ts';
import { readAhead } from './read-ahead.ts';
import type { SnapshotPass, SnapshotSource } from './snapshot-source.ts';

/** What a copy in several passes works with. */
export interface PrecopySetup {
  readonly source: SnapshotSource;
  readonly target: PositionedTarget;
  readonly watch: WriteWatch;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/**
 * Copies a source in passes: live ones while it is in use, and a frozen one that reads everything
 * again and writes only the blocks that differ.
 *
 * Blocks that an earlier pass brought and that are free at the end become zeros, after the thaw.
 */
export class Precopy {
  readonly #setup: PrecopySetup;
  readonly #blocks: CopiedBlocks;
  #writtenBytes = 0;

  constructor(setup: PrecopySetup) {
    this.#setup = setup;
    const { sizeBytes } = setup.source;
    this.#blocks = new CopiedBlocks({ sizeBytes, isBlank: setup.target.isBlank });
  }

  /** Brings most of the source over while it is in use. */
  async copyLive(): Promise<void> {
    const { source, target, clock } = this.#setup;
    await target.begin(source.sizeBytes);
    await readLivePasses(source, {
      clock,
      read: (pass, turn) => this.#copy(pass, turn),
      settle: () => target.sync(),
      changedBytes: () => this.#writtenBytes,
    });
  }

  /** Brings what differs from a pass; the pass ends with its last read. */
  async copyFrozen(pass: SnapshotPass): Promise<void> {
    await this.#copy(pass, undefined);
  }

  /** Makes all zeros that no extent has a byte of. Needs no freeze. */
  async zeroRest(extents: readonly Extent[]): Promise<void> {
    const { target, watch } = this.#setup;
    for (const { offsetBytes, lengthBytes } of this.#blocks.leftovers(extents)) {
      await target.zeroAt(offsetBytes, lengthBytes, watch);
    }
  }

  async #copy(pass: SnapshotPass, turn: number | undefined): Promise<void> {
    const { signal, watch, onProgress } = this.#setup;
    const stage = turn === 1 ? 'copying the live source' : `copying what changed (${turn})`;
    const allocatedBytes = totalBytes(pass.extents);
    const { blockBytes } = this.#blocks;
    const onAllRead = turn === undefined ? () => pass.end() : undefined;
    const parts = readAhead(pass, pass.extents, {
      signal,
      ...(onAllRead === undefined ? {} : { onAllRead }),
    });
    let doneBytes = 0;
    for await (const piece of blockPieces(parts, { blockBytes, sizeBytes: pass.sizeBytes })) {
      watch.alive();
      await this.#put(piece);
      doneBytes = Math.min(allocatedBytes, doneBytes + piece.bytes.length);
      piece.release();
      // Nothing is said while something is frozen: the words may end in a log file on it.
      if (turn !== undefined) onProgress({ doneBytes, totalBytes: allocatedBytes, stage });
    }
  }

  /** Writes the blocks of a piece that differ, neighbours together. */
  async #put({ offsetBytes, bytes }: BlockPiece): Promise<void> {
    const { target, watch } = this.#setup;
    const { blockBytes } = this.#blocks;
    let pending = 0;
    const writeUpTo = async (at: number): Promise<void> => {
      if (at === pending) return;
      await target.writeAt(offsetBytes + pending, bytes.subarray(pending, at), watch);
      this.#writtenBytes += at - pending;
    };
    for (let at = 0; at < bytes.length; at += blockBytes) {
      const block = bytes.subarray(at, at + blockBytes);
      const todo = this.#blocks.put(offsetBytes + at, block);
      if (todo === 'write') continue;
      await writeUpTo(at);
      pending = at + block.length;
      if (todo === 'zero') await target.zeroAt(offsetBytes + at, block.length, watch);
    }
    await writeUpTo(bytes.length);
  }
}
