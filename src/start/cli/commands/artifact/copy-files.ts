import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import { writeAll } from '../../../../capture/adapters/write-all.ts';
import type { OutputFile } from './partial-file.ts';
import { readFilePieces } from './payload-file.ts';

const ZEROS = Buffer.alloc(1024 * 1024);

/**
 * Copies a part of a file; both ends are bytes of the file.
 *
 * @throws IngotError `content-changed` when the file is shorter
 */
export async function copyRange(
  path: string,
  { from, to }: { readonly from: number; readonly to: number },
  { output, signal }: { readonly output: OutputFile; readonly signal: AbortSignal },
): Promise<void> {
  let at = from;
  for await (const piece of readFilePieces(path, { fromByte: from, keptBytes: 0 })) {
    if (at >= to) return;
    signal.throwIfAborted();
    const part = piece.subarray(0, to - at);
    await output.write(part);
    at += part.length;
  }
  if (at < to) {
    throw new IngotError('content-changed', `${path} became shorter while it was copied`, { path });
  }
}

/** Writes pieces into a new file; runs of zeros become holes. */
export async function writeSparse(
  target: string,
  pieces: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(target, 'wx', 0o600);
  try {
    let at = 0;
    for await (const piece of pieces) {
      signal.throwIfAborted();
      if (!ZEROS.subarray(0, piece.byteLength).equals(piece)) {
        await writeAll(file, piece, at);
      }
      at += piece.byteLength;
    }
    await file.truncate(at);
  } catch (thrown) {
    throw targetFailure(thrown, target);
  }
}

/** A copy of a file beside it, which takes its place when the work is done. */
export interface WorkingCopy extends AsyncDisposable {
  readonly path: string;
  commit(): Promise<void>;
}

/**
 * Copies an image so that it can be changed: a failure leaves the original as it was.
 *
 * @throws IngotError `source-unreadable`, `target-full`, `target-unwritable`
 */
export async function openWorkingCopy(path: string, signal: AbortSignal): Promise<WorkingCopy> {
  const original = await realpath(path).catch((cause: unknown) => {
    if (errnoOf(cause) !== 'ENOENT') throw cause;
    throw new IngotError('file-not-found', `no file ${path}`, { path }, { cause });
  });
  const { mode, uid, gid } = await stat(original);
  const tail = randomBytes(6).toString('hex');
  const copy = join(dirname(original), `.${basename(original)}.${tail}.partial`);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(copy, { force: true }));
  await writeSparse(copy, readFilePieces(original, { keptBytes: 0 }), signal);
  const kept = undo.move();
  return {
    path: copy,
    async commit() {
      await using file = await open(copy, 'r+');
      await file.chmod(mode & 0o7777);
      await file.chown(uid, gid).catch((thrown: unknown) => {
        if (errnoOf(thrown) !== 'EPERM') throw thrown;
      });
      await file.sync();
      await rename(copy, original);
      await using folder = await open(
        dirname(original),
        constants.O_RDONLY | constants.O_DIRECTORY,
      );
      await folder.sync();
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
