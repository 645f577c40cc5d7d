import { close, closeSync, fstatSync } from 'node:fs';
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

/** What whoever opens a place knows of files. */
interface HandoverParts {
  /** Owns what was left to be written, once it has checked it. */
  readonly holdOutput: HoldOutput;
  /** Whether no call on the file can wait for anybody else: another machine, somebody's program. */
  readonly isAnsweredByKernel: (fd: number) => boolean;
}

/**
 * Opens a place where a process of this machine leaves an open file, by `SCM_RIGHTS`.
 *
 * What it may read or write is its own right, shown by the open file: the daemon opens no path that
 * somebody names, which it might be allowed to read and they not.
 */
export function openSocketHandover(key: string, parts: HandoverParts): Handover {
  const { holdOutput, isAnsweredByKernel } = parts;
  const socket = openDescriptorSocket();
  const keep = async <T>(hold: (descriptors: readonly number[]) => Promise<T>): Promise<T> => {
    const descriptors = socket.receive(key);
    if (descriptors === undefined) {
      throw new IngotError('source-not-found', 'no file was left at the socket');
    }
    if (!descriptors.every(isAnsweredByKernel)) {
      // On another thread: closing may wait, too.
      for (const fd of descriptors) close(fd, () => undefined);
      throw new IngotError('not-allowed', 'the daemon takes no files of a network or of a program');
    }
    return await keepFrom(descriptors, hold);
  };
  return {
    socket: socket.name,
    take: () => keep(heldFile),
    takeOutput: (name) => keep((descriptors) => holdOutput(descriptors, name)),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  };
}

/** @param hold owns the descriptors once it has returned */
async function keepFrom<T>(
  descriptors: readonly number[],
  hold: (descriptors: readonly number[]) => Promise<T>,
): Promise<T> {
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
