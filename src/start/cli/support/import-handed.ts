import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { errnoOf, type Id, IngotError } from '../../../base/index.ts';
import {
  DISK_HEADER_BYTES,
  type DiskFormat,
  MAGIC_BYTES,
  sniffCompression,
  sniffDiskFormat,
} from '../../../bytes/index.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { handOver, isThisMachine, unlessRefused } from '../../client/hand-over.ts';
import { readAnswer } from '../../client/http-connection.ts';
import type { CliContext } from '../context.ts';
import {
  beginImport,
  describedImport,
  finishImport,
  type ImportDescription,
  type ImportWords,
} from './daemon-import.ts';

/** What the daemon is told of a file that it is handed. */
export interface HandedImport extends ImportDescription, ImportWords {
  readonly client: DaemonClient;
}

/**
 * Hands a plain image file to a daemon of this machine, which reads it itself: nothing is sent
 * through a socket, named twice, or inflated by somebody who cannot know who coded it.
 *
 * A cancelled command gives the import up.
 *
 * @returns false where that cannot be: a file that is no plain disk, a daemon elsewhere, or one that
 *   may not read the file. Nothing was made then
 * @throws IngotError the failures of the import
 */
export async function importHanded(
  context: CliContext,
  path: string,
  { client, ...options }: HandedImport,
): Promise<boolean> {
  if (!isThisMachine(client.url)) return false;
  const startedAt = performance.now();
  const key = await handFileOver(client, path, options.format);
  if (key === undefined) return false;
  const beginning = beginImport(client, {
    ...describedImport({ ...options, format: 'raw' }),
    handover: { key, name: basename(path) },
  });
  // The daemon may run as somebody who may not read it, though this user may.
  const begun = await unlessRefused(beginning, ['not-allowed']);
  if (begun === undefined) return false;
  try {
    context.signal.throwIfAborted();
    await finishImport(context, { ...begun, client, startedAt }, options);
  } catch (thrown) {
    if (context.signal.aborted) await giveUp(client, begun.imageId);
    throw thrown;
  }
  return true;
}

/** @returns the key under which the daemon has the open file */
async function handFileOver(
  client: DaemonClient,
  path: string,
  format: DiskFormat | undefined,
): Promise<string | undefined> {
  await using file = await openPlainDisk(path, format);
  if (file === undefined) return undefined;
  return await handOver(client, [file.fd]);
}

/** What has another form is unpacked and converted by the command, under the user's own limits. */
async function openPlainDisk(
  path: string,
  format: DiskFormat | undefined,
): Promise<FileHandle | undefined> {
  await using undo = new AsyncDisposableStack();
  let file: FileHandle;
  try {
    file = undo.use(await open(path, 'r'));
  } catch (cause) {
    // Whoever reads it otherwise says what is wrong with it.
    if (errnoOf(cause) !== undefined) return undefined;
    throw cause;
  }
  if (!(await file.stat()).isFile()) return undefined;
  const room = Buffer.alloc(Math.max(MAGIC_BYTES, DISK_HEADER_BYTES));
  const { bytesRead } = await file.read(room, 0, room.byteLength, 0);
  const start = room.subarray(0, bytesRead);
  const isPlain =
    bytesRead > 0 &&
    sniffCompression(start) === 'none' &&
    (format ?? sniffDiskFormat(start)) === 'raw';
  if (!isPlain) return undefined;
  undo.move();
  return file;
}

async function giveUp(client: DaemonClient, imageId: Id<'img'>): Promise<void> {
  try {
    await readAnswer(
      await client.call({
        method: 'DELETE',
        path: `/images/${imageId}/upload`,
        isIdempotent: false,
        isCleanup: true,
      }),
    );
  } catch (thrown) {
    if (!(thrown instanceof IngotError)) throw thrown;
    // It has ended, or its daemon has.
  }
}
