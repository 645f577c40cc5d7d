import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../../base/index.ts';

/** Turns what a write threw into a failure. */
export function writeFailure(path: string, offsetBytes: number, cause: unknown): IngotError {
  const errno = errnoOf(cause) ?? 'an error';
  const isFull = errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EFBIG';
  return new IngotError(
    isFull ? 'target-full' : 'target-closed',
    `${path} answered a write at byte ${offsetBytes} with ${errno}`,
    { path, offsetBytes },
    { cause },
  );
}

/**
 * Opens with O_DIRECT, or without it where the filesystem does not know it (tmpfs, some FUSE).
 *
 * @returns the handle, and whether it bypasses the page cache
 */
export async function openDirect(
  path: string,
  flags: number,
  mode?: number,
): Promise<{ readonly handle: FileHandle; readonly isDirect: boolean }> {
  try {
    return { handle: await open(path, flags | constants.O_DIRECT, mode), isDirect: true };
  } catch (thrown) {
    if (errnoOf(thrown) !== 'EINVAL') throw thrown;
    // O_CREAT together with a refused O_DIRECT leaves the new file behind, so it is there now.
    const isThere = (flags & constants.O_CREAT) !== 0;
    const again = isThere ? flags & ~constants.O_EXCL : flags;
    return { handle: await open(path, again, mode), isDirect: false };
  }
}

/** Fills the buffer from a file or device; what lies behind its end becomes zeros. */
export async function readBlocks(
  handle: FileHandle,
  buffer: Buffer,
  { path, offsetBytes }: { readonly path: string; readonly offsetBytes: number },
): Promise<void> {
  let done = 0;
  try {
    while (done < buffer.length) {
      const wanted = buffer.length - done;
      const { bytesRead } = await handle.read(buffer, done, wanted, offsetBytes + done);
      if (bytesRead === 0) break;
      done += bytesRead;
      // The last block of a file is short, and an offset inside a block is no place to go on from.
      if (bytesRead < wanted && bytesRead % 512 !== 0) break;
    }
  } catch (cause) {
    throw new IngotError(
      'source-unreadable',
      `${path} answered a read at byte ${offsetBytes + done} with ${errnoOf(cause) ?? 'an error'}`,
      { path, offsetBytes: offsetBytes + done },
      { cause },
    );
  }
  buffer.fill(0, done);
}

/** Writes the whole buffer. */
export async function writeBlocks(
  handle: FileHandle,
  buffer: Buffer,
  { path, offsetBytes }: { readonly path: string; readonly offsetBytes: number },
): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    try {
      const { bytesWritten } = await handle.write(
        buffer,
        done,
        buffer.length - done,
        offsetBytes + done,
      );
      done += bytesWritten;
    } catch (cause) {
      throw writeFailure(path, offsetBytes + done, cause);
    }
  }
}
