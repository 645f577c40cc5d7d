/**
 * The thread of a digest. Takes bytes in shared memory, a count of zeros, or `end`; answers each
 * with nothing, and `end` with the 32 bytes of the SHA-256.
 */
import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

const port = parentPort;
if (port === null) throw new Error('a digest stream runs in a worker thread');

const ZEROS = Buffer.alloc(1024 * 1024);
const hash = createHash('sha256');

port.on('message', (what: Uint8Array | number | 'end') => {
  if (what === 'end') {
    port.postMessage(hash.digest());
    return;
  }
  if (typeof what === 'number') {
    for (let left = what; left > 0; left -= ZEROS.length) {
      hash.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    }
  } else {
    hash.update(what);
  }
  port.postMessage(undefined);
});
