import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, IngotError } from '../../../base/index.ts';
import type { RestoreTarget, TargetFacts } from '../restore-target.ts';
import { alignedBuffer, dropFileCache, lockFile, punchHole } from './device-calls.ts';
import { loopDeviceOver } from './device-lookup.ts';
import { openDirect, readBlocks, writeBlocks, writeFailure } from './direct-file.ts';

/** Direct I/O on files wants the block size of their device; 4096 suits every one of them. */
const BLOCK_BYTES = 4096;

/** How a file is written. */
export interface FileTargetOptions {
  /** Size that the file is to have: the image's. */
  readonly sizeBytes: number;
  /**
   * `new`: under another name first, which replaces what was there at the end. `in-place`: over
   * what is there, so that only differences are written. `compare`: for reading only.
   */
  readonly mode: 'new' | 'in-place' | 'compare';
}

/** A file, sparse where the image has holes. */
class FileTarget implements RestoreTarget {
  readonly facts: TargetFacts;
  readonly blockBytes = BLOCK_BYTES;
  readonly isBlank: boolean;
  readonly zeroesCheaply: boolean;
  readonly #finalPath: string | undefined;
  readonly #handle: FileHandle;
  readonly #isDirect: boolean;
  readonly #writes: boolean;
  #hasWritten = false;
  #isPublished = false;

  constructor(setup: {
    readonly facts: TargetFacts;
    readonly finalPath: string | undefined;
    readonly isBlank: boolean;
    readonly writes: boolean;
    readonly handle: FileHandle;
    readonly isDirect: boolean;
  }) {
    this.facts = setup.facts;
    this.isBlank = setup.isBlank;
    this.zeroesCheaply = setup.writes;
    this.#finalPath = setup.finalPath;
    this.#writes = setup.writes;
    this.#handle = setup.handle;
    this.#isDirect = setup.isDirect;
  }

  allocate(lengthBytes: number): Buffer<ArrayBuffer> {
    return alignedBuffer(lengthBytes);
  }

  read(buffer: Buffer, offsetBytes: number): Promise<void> {
    return readBlocks(this.#handle, buffer, { path: this.facts.path, offsetBytes });
  }

  async write(buffer: Buffer, offsetBytes: number): Promise<void> {
    this.#hasWritten = true;
    await writeBlocks(this.#handle, buffer, { path: this.facts.path, offsetBytes });
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    try {
      await punchHole(this.#handle.fd, offsetBytes, lengthBytes);
    } catch (thrown) {
      if (errnoOf(thrown) !== 'EOPNOTSUPP') {
        throw writeFailure(this.facts.path, offsetBytes, thrown);
      }
      const zeros = this.allocate(1024 * 1024).fill(0);
      for (let done = 0; done < lengthBytes; done += zeros.length) {
        const piece = zeros.subarray(0, Math.min(zeros.length, lengthBytes - done));
        await this.write(piece, offsetBytes + done);
      }
    }
  }

  async sync(): Promise<void> {
    try {
      // The last block was written whole; the image may end inside it.
      if (this.#writes) await this.#handle.truncate(this.facts.sizeBytes);
      await this.#handle.sync();
      if (!this.#isDirect) dropFileCache(this.#handle.fd);
    } catch (thrown) {
      throw writeFailure(this.facts.path, 0, thrown);
    }
  }

  async publish(): Promise<void> {
    if (this.#finalPath === undefined) return;
    try {
      await rename(partPath(this.#finalPath), this.#finalPath);
      this.#isPublished = true;
      await syncFolder(dirname(this.#finalPath));
    } catch (thrown) {
      throw writeFailure(this.#finalPath, 0, thrown);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A part that has bytes stays: the same command goes on from there.
    const isUseless = this.#finalPath !== undefined && !this.#isPublished && !this.#hasWritten;
    if (isUseless && this.isBlank) await rm(partPath(this.#finalPath ?? ''), { force: true });
    await this.#handle.close();
  }
}

/** Where a new file is written until it is whole. */
export function partPath(finalPath: string): string {
  return join(dirname(finalPath), `.${basename(finalPath)}.ingot-part`);
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await folder.sync();
}

/**
 * Opens a file to be written.
 *
 * With `mode: 'new'`, what a restore left behind that was killed is found and used again.
 *
 * @throws IngotError `target-in-use` when another restore writes it or a loop device is over it,
 *   `target-closed` when it cannot be opened, `source-not-found`
 */
export async function openFileTarget(
  path: string,
  { sizeBytes, mode }: FileTargetOptions,
): Promise<RestoreTarget> {
  await using undo = new AsyncDisposableStack();
  if (mode !== 'compare') await refuseLoopFile(path);
  const openedPath = mode === 'new' ? partPath(path) : path;
  const flags = mode === 'compare' ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT;
  const { handle, isDirect } = await openOrFail(openedPath, flags | constants.O_NOFOLLOW);
  undo.use(handle);
  const before = await handle.stat();
  if (!before.isFile()) {
    throw new IngotError('path-refused', `${openedPath} is no ordinary file`, { path: openedPath });
  }
  if (mode !== 'compare') {
    const isOurs = lockFile(handle.fd) && (await isStillAt(openedPath, before.ino));
    if (!isOurs) {
      throw new IngotError('target-in-use', `${openedPath} is being written by another restore`, {
        path: openedPath,
      });
    }
    try {
      await handle.truncate(sizeBytes);
    } catch (thrown) {
      throw writeFailure(openedPath, 0, thrown);
    }
  }
  undo.move();
  return new FileTarget({
    facts: { path, kind: 'file', sizeBytes: mode === 'compare' ? before.size : sizeBytes },
    finalPath: mode === 'new' ? path : undefined,
    isBlank: mode !== 'compare' && before.size === 0,
    writes: mode !== 'compare',
    handle,
    isDirect,
  });
}

/** Whether the file that was just locked has not been renamed by the restore that had it before. */
async function isStillAt(path: string, inode: number): Promise<boolean> {
  try {
    return (await stat(path)).ino === inode;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return false;
    throw thrown;
  }
}

async function openOrFail(
  path: string,
  flags: number,
): Promise<{ readonly handle: FileHandle; readonly isDirect: boolean }> {
  try {
    return await openDirect(path, flags, 0o666);
  } catch (thrown) {
    const errno = errnoOf(thrown) ?? 'an error';
    const isAbsent = errno === 'ENOENT';
    throw new IngotError(
      isAbsent ? 'source-not-found' : errno === 'ENOSPC' ? 'target-full' : 'target-closed',
      `${path} cannot be opened: ${errno}`,
      { path },
      { cause: thrown },
    );
  }
}

async function refuseLoopFile(path: string): Promise<void> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    const loop = loopDeviceOver({ dev, ino });
    if (loop === undefined) return;
    throw new IngotError('target-in-use', `${path} is the disk of ${loop}`, { path, loop });
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT') throw thrown;
  }
}
