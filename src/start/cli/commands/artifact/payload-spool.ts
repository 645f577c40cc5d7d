import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { IngotError } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import { writeAll } from '../../../../capture/adapters/write-all.ts';
import type { ArtifactPayload } from '../../../../publish/index.ts';
import { apartOf } from './payload-digest.ts';
import { readFilePieces } from './payload-file.ts';

const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(1024 * 1024);

/** A payload in a temporary file, which disposal removes; so does the death of this process. */
export interface SpooledPayload extends AsyncDisposable {
  readonly payload: ArtifactPayload;
}

/** Runs of blocks that are not all zeros, as offsets in the piece. */
function* dataRuns(piece: Buffer): Generator<readonly [start: number, end: number]> {
  let start: number | undefined;
  for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
    const block = piece.subarray(at, at + BLOCK_BYTES);
    if (!block.equals(ZEROS.subarray(0, block.length))) {
      start ??= at;
    } else if (start !== undefined) {
      yield [start, at];
      start = undefined;
    }
  }
  if (start !== undefined) yield [start, piece.length];
}

/**
 * Copies a payload that can be read only once to a file without a name, zeros as holes: its size and
 * digest stand before its bytes in an artifact.
 *
 * @param folder an existing folder
 * @throws IngotError `target-full`, `target-unwritable`; failures of `source` as they are
 */
export async function spoolPayload(
  source: Pick<ArtifactPayload, 'name' | 'mode' | 'open'>,
  folder: string,
  signal: AbortSignal,
): Promise<SpooledPayload> {
  const path = join(folder, `ingot-payload-${randomBytes(6).toString('hex')}`);
  const handle = await open(path, 'wx+', 0o600).catch((thrown: unknown) => {
    throw targetFailure(thrown, folder);
  });
  await using undo = new AsyncDisposableStack();
  undo.defer(() => handle.close());
  // It has no name from here on: nothing is left behind, whatever happens.
  await rm(path);
  let sizeBytes = 0;
  const allocate = (lengthBytes: number): Buffer => Buffer.allocUnsafeSlow(lengthBytes);
  for await (const piece of source.open({ signal, keptBytes: 0, allocate })) {
    signal.throwIfAborted();
    try {
      for (const [start, end] of dataRuns(piece)) {
        await writeAll(handle, piece.subarray(start, end), sizeBytes + start);
      }
    } catch (thrown) {
      throw targetFailure(thrown, `the spool in ${folder}`);
    }
    sizeBytes += piece.length;
  }
  if (sizeBytes === 0) {
    throw new IngotError('source-unsupported', `${source.name} is empty: no filesystem`);
  }
  await handle.truncate(sizeBytes);
  const owned = undo.move();
  const nameless = `/proc/self/fd/${handle.fd}`;
  return {
    payload: {
      name: source.name,
      mode: source.mode,
      isAugmented: false,
      sizeBytes,
      open: ({ keptBytes, allocate: take }) =>
        readFilePieces(nameless, { keptBytes, allocate: take }),
      ...apartOf(nameless),
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
