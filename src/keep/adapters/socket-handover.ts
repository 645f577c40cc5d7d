import { closeSync, fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { HandedFile, HandedOutput, Handover } from '../imports/handed-files.ts';
import { openDescriptorSocket } from './descriptor-socket.ts';

/**
 * Holds a file that is to be written; the descriptors are the caller's when it throws.
 *
 * @param name for people
 */
type HoldOutput = (descriptors: readonly number[], name: string) => Promise<HandedOutput>;

/**
 * Opens a place where a process of this machine leaves an open file, by `SCM_RIGHTS`.
 *
 * What it may read or write is its own right, shown by the open file: the daemon opens no path that
 * somebody names, which it might be allowed to read and they not.
 *
 * @param holdOutput owns what was left to be written, once it has checked it
 */
export function openSocketHandover(key: string, holdOutput: HoldOutput): Handover {
  const socket = openDescriptorSocket();
  return {
    socket: socket.name,
    take: () => keepFrom(socket.receive(key), heldFile),
    takeOutput: (name) =>
      keepFrom(socket.receive(key), (descriptors) => holdOutput(descriptors, name)),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  };
}

/** @param hold owns the descriptors once it has returned */
async function keepFrom<T>(
  descriptors: readonly number[] | undefined,
  hold: (descriptors: readonly number[]) => Promise<T>,
): Promise<T> {
  if (descriptors === undefined) {
    throw new IngotError('source-not-found', 'no file was left at the socket');
  }
  try {
    return await hold(descriptors);
  } catch (thrown) {
    for (const fd of descriptors) closeSync(fd);
    throw thrown;
  }
}

async function heldFile([fd, ...others]: readonly number[]): Promise<HandedFile> {
  if (fd === undefined || others.length > 0) {
    throw new IngotError('source-unreadable', 'what was left is more than one file');
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) throw new IngotError('source-unreadable', 'what was left is no regular file');
  const path = `/proc/self/fd/${fd}`;
  try {
    // Each reader has a descriptor of its own, for which this process needs the right too.
    await (await open(path, 'r')).close();
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'unknown';
    throw new IngotError(
      'not-allowed',
      `the daemon may not read the file: ${errno}`,
      { errno },
      { cause },
    );
  }
  let isOpen = true;
  return {
    path,
    sizeBytes: stat.size,
    [Symbol.asyncDispose]: async () => {
      if (!isOpen) return;
      isOpen = false;
      closeSync(fd);
    },
  };
}
