/** Brings the machine into the same state before each run. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import { nextData } from '../src/capture/adapters/libc.ts';

const READ_BYTES = 4 * 1024 * 1024;

/**
 * Has the disk write what the run before left in memory, and has the data of an image in the page
 * cache, its holes not: a peer that reads them leaves gigabytes of zeros there.
 *
 * Without it the first to read an image pays for the disk, and each for what the one before wrote.
 */
export function readyImage(image: string): void {
  spawnSync('sync');
  spawnSync('dd', [`if=${image}`, 'iflag=nocache', 'count=0', 'status=none']);
  const room = Buffer.allocUnsafe(READ_BYTES);
  const fd = openSync(image, 'r');
  try {
    for (let run = nextData(fd, 0); run !== undefined; run = nextData(fd, run.end)) {
      for (let at = run.start; at < run.end; ) {
        const wanted = Math.min(READ_BYTES, run.end - at);
        const got = readSync(fd, room, 0, wanted, at);
        if (got === 0) return;
        at += got;
      }
    }
  } finally {
    closeSync(fd);
  }
}
