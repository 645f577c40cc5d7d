import { closeSync, fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { HandedFile, Handover } from '../imports/handed-files.ts';
import { openDescriptorSocket } from './descriptor-socket.ts';

/**
 * Opens a place where a process of this machine leaves an open file, by `SCM_RIGHTS`.
 *
 * What it may read is its own right, shown by the open file: the daemon opens no path that somebody
 * names, which it might be allowed to read and they not.
 */
export function openSocketHandover(key: string): Handover {
  const socket = openDescriptorSocket();
  return {
    socket: socket.name,
    take: async () => {
      const fd = socket.receive(key);
      if (fd === undefined) {
        throw new IngotError('source-not-found', 'no file was left at the socket');
      }
      try {
        return await heldFile(fd);
      } catch (thrown) {
        closeSync(fd);
        throw thrown;
      }
    },
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  };
}

async function heldFile(fd: number): Promise<HandedFile> {
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
