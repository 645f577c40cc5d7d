import { type Clock, formatBytes, IngotError, type OnProgress } from '../base/index.ts';
import { totalBytes } from '../bytes/index.ts';
import { blockPieces } from './block-pieces.ts';
import { CompressedSink, type DumpSink, HOLE_BYTES, rawSink } from './dump-sinks.ts';
import type { DumpTarget, PositionedTarget, WriteWatch } from './dump-target.ts';
import { Precopy } from './precopy.ts';
import { readAhead } from './read-ahead.ts';
import type { CaptureFacts, SnapshotPass, SnapshotSource } from './snapshot-source.ts';
import type { StreamCompressor } from './stream-compressor.ts';

/** Bytes of a raw image that are sent before the freeze: no filesystem but XFS writes there. */
const RAW_PRELUDE_BYTES = 1024;
/** XFS has its super block first; its magic number is all that never changes. */
const XFS_PRELUDE_BYTES = 4;

/** What a dump tells at its end. */
export interface DumpReport {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  /** Bytes that went to the target; holes of a sparse file are not among them. */
  readonly writtenBytes: number;
  readonly capture: CaptureFacts;
  readonly notices: readonly string[];
  readonly elapsedMs: number;
}

/** What an image begins with, as far as no filesystem changes it while it is mounted. */
async function readPrelude(pass: SnapshotPass): Promise<Buffer> {
  const lengthBytes = Math.min(RAW_PRELUDE_BYTES, pass.sizeBytes);
  const [first] = pass.extents;
  if (first === undefined || first.offsetBytes >= lengthBytes) return Buffer.alloc(lengthBytes);
  if (first.offsetBytes > 0) return Buffer.alloc(first.offsetBytes);
  const bytes = await pass.read(0, Math.min(lengthBytes, first.lengthBytes));
  const isXfs = bytes.toString('latin1', 0, XFS_PRELUDE_BYTES) === 'XFSB';
  return isXfs ? bytes.subarray(0, XFS_PRELUDE_BYTES) : bytes;
}

/** Sends what needs no freeze, and waits until the reader has it (an ssh has logged in then). */
async function sendPrelude(
  live: SnapshotPass,
  {
    target,
    compressor,
    watch,
  }: {
    readonly target: DumpTarget;
    readonly compressor: StreamCompressor | undefined;
    readonly watch: WriteWatch;
  },
): Promise<Buffer> {
  let prelude = Buffer.alloc(0);
  if (compressor !== undefined) {
    await target.write(compressor.header, watch);
  } else if (!target.isSparse) {
    prelude = Buffer.from(await readPrelude(live));
    await target.write(prelude, watch);
  }
  await target.taken(watch);
  return prelude;
}

async function checkPrelude(pass: SnapshotPass, prelude: Buffer): Promise<void> {
  if (prelude.length === 0) return;
  if (!prelude.equals(await readPrelude(pass))) {
    throw new IngotError(
      'source-unreadable',
      `the first ${prelude.length} bytes of the source changed before it was frozen`,
    );
  }
}

function checkRoom(live: SnapshotPass, target: DumpTarget): void {
  const neededBytes = target.isSparse ? totalBytes(live.extents) : live.sizeBytes;
  const { roomBytes } = target;
  if (roomBytes !== undefined && roomBytes < neededBytes) {
    throw new IngotError(
      'target-too-small',
      `the image needs ${formatBytes(neededBytes)}, the target has ${formatBytes(roomBytes)}`,
      { neededBytes, roomBytes },
    );
  }
}

/** What a dump needs. */
export interface DumpRequest {
  readonly source: SnapshotSource;
  readonly target: DumpTarget;
  /** Undefined: the exact bytes. */
  readonly compressor: StreamCompressor | undefined;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** Where a copy in several passes is of use: the source is in use and the target takes any order. */
function precopyTarget({ source, target, compressor }: DumpRequest): PositionedTarget | undefined {
  return source.mayChange && compressor === undefined ? target.positioned : undefined;
}

/** Checks that the image fits and sends its beginning, while nothing is frozen yet. */
async function prepare(request: DumpRequest, watch: WriteWatch): Promise<Buffer> {
  const { source, target, compressor } = request;
  const live = await source.pass('live');
  try {
    if (compressor === undefined) checkRoom(live, target);
    if (precopyTarget(request) !== undefined) return Buffer.alloc(0);
    return await sendPrelude(live, { target, compressor, watch });
  } finally {
    await live.end();
  }
}

/** Brings a pass to the target in order; the pass ends with its last read. */
async function copyPass(
  pass: SnapshotPass,
  { target, compressor, onProgress, signal }: DumpRequest,
  { prelude, watch }: { readonly prelude: Buffer; readonly watch: WriteWatch },
): Promise<void> {
  const { sizeBytes, extents } = pass;
  const sink: DumpSink =
    compressor === undefined
      ? rawSink(target, watch)
      : new CompressedSink(compressor, target, watch);
  const blockBytes = compressor?.pieceBytes ?? HOLE_BYTES;
  const allocatedBytes = totalBytes(extents);
  await checkPrelude(pass, prelude);
  const parts = readAhead(pass, extents, { signal, onAllRead: () => pass.end() });
  let at = prelude.length;
  let doneBytes = 0;
  for await (const { offsetBytes, bytes, release } of blockPieces(parts, {
    blockBytes,
    sizeBytes,
  })) {
    watch.alive();
    // Once it is released the memory may be gone, and its length with it.
    const { length } = bytes;
    if (offsetBytes > at) await sink.zeros(offsetBytes - at);
    await sink.data(bytes.subarray(Math.max(at - offsetBytes, 0)), release);
    at = offsetBytes + length;
    doneBytes = Math.min(allocatedBytes, doneBytes + length);
    onProgress({ doneBytes, totalBytes: allocatedBytes, stage: 'copying the snapshot' });
  }
  await pass.end();
  if (at < sizeBytes) await sink.zeros(sizeBytes - at);
  await sink.end();
}

/**
 * Copies a snapshot to a pipe or file.
 *
 * A source in use goes to a file or device, uncompressed, in several passes: the freeze lasts one
 * read, and only what differs is written meanwhile. Everywhere else there is one frozen pass:
 * everything that needs no freeze is done before it, and it ends with the last read, while
 * compression and writing may go on.
 *
 * @returns what happened, after the target was committed
 * @throws IngotError of the source and of the target; nothing is frozen then, and a file target
 *   leaves nothing behind once it is disposed of
 */
export async function dumpSnapshot(request: DumpRequest): Promise<DumpReport> {
  const { source, target, signal, clock } = request;
  const startedAt = clock.monotonic();
  let pass: SnapshotPass | undefined;
  let writtenBytes = 0;
  let isOver = false;
  const watch: WriteWatch = {
    alive: () => {
      signal.throwIfAborted();
      if (!isOver) pass?.freeze?.check();
    },
    wrote: (bytes) => {
      writtenBytes += bytes;
      if (!isOver) pass?.freeze?.progressed();
    },
  };
  const prelude = await prepare(request, watch);
  const positioned = precopyTarget(request);
  const precopy =
    positioned === undefined ? undefined : new Precopy({ ...request, target: positioned, watch });
  await precopy?.copyLive();
  signal.throwIfAborted();
  pass = await source.pass('frozen');
  const { sizeBytes, extents } = pass;
  try {
    if (precopy === undefined) await copyPass(pass, request, { prelude, watch });
    else await precopy.copyFrozen(pass);
  } finally {
    isOver = true;
    await pass.end();
  }
  await precopy?.zeroRest(extents);
  signal.throwIfAborted();
  await target.commit();
  return {
    sizeBytes,
    allocatedBytes: totalBytes(extents),
    writtenBytes,
    capture: source.facts(),
    notices: source.notices(),
    elapsedMs: clock.monotonic() - startedAt,
  };
}
