import { fstatSync, fsync, ftruncateSync, write } from 'node:fs';
import { promisify } from 'node:util';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { DumpTarget, WriteWatch } from '../dump-target.ts';
import {
  blockDeviceSize,
  bytesInFlight,
  enlargePipe,
  openFlags,
  positionOf,
  seekTo,
  setNonBlocking,
  waitWritable,
} from './libc.ts';
import { PositionedFile } from './positioned-file.ts';
import { targetFailure } from './target-failure.ts';

const writeAt = promisify(write);
const syncFile = promisify(fsync);
/** How long one wait for a reader lasts before its watch is asked again, in ms. */
const WAIT_MS = 250;
const O_APPEND = 0o2000;
/** What everybody may ask for. @see pipe(7) /proc/sys/fs/pipe-max-size */
const PIPE_BYTES = 1024 * 1024;

/** A pipe, socket or character device: bytes go in order, and wait for their reader. */
class PipeTarget implements DumpTarget {
  readonly isSparse = false;
  readonly roomBytes = undefined;
  readonly #fd: number;
  readonly #kind: 'pipe' | 'socket';
  readonly #restoreFlags: () => void;

  constructor(fd: number, kind: 'pipe' | 'socket') {
    this.#fd = fd;
    this.#kind = kind;
    // A write that waits for a reader would hold a thread that nothing can interrupt.
    this.#restoreFlags = setNonBlocking(fd);
    if (kind === 'pipe') enlargePipe(fd, PIPE_BYTES);
  }

  async write(bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      watch.alive();
      try {
        const { bytesWritten } = await writeAt(this.#fd, bytes, done, bytes.length - done, null);
        done += bytesWritten;
        watch.wrote(bytesWritten);
      } catch (thrown) {
        if (errnoOf(thrown) !== 'EAGAIN') throw targetFailure(thrown, 'the output');
        await this.#wait();
      }
    }
  }

  skip(): Promise<void> {
    return Promise.reject(new Error('a pipe has no holes'));
  }

  async taken(watch: WriteWatch): Promise<void> {
    // Nothing tells when a pipe runs empty, so it is asked. Nothing is frozen meanwhile.
    for (let pauseMs = 1; bytesInFlight(this.#fd, this.#kind) > 0; pauseMs *= 2) {
      watch.alive();
      await this.#wait();
      await new Promise((resolve) => {
        setTimeout(resolve, Math.min(pauseMs, 50));
      });
    }
  }

  commit(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#restoreFlags();
    return Promise.resolve();
  }

  async #wait(): Promise<void> {
    if ((await waitWritable(this.#fd, WAIT_MS)) === 'closed') {
      throw new IngotError('target-closed', 'the reader of the output went away');
    }
  }
}

/** A redirection into a regular file or block device, from the descriptor's own position on. */
class RedirectedTarget implements DumpTarget {
  readonly isSparse: boolean;
  readonly roomBytes: number | undefined;
  readonly positioned: PositionedFile | undefined;
  readonly #fd: number;
  readonly #isFile: boolean;
  readonly #startBytes: number;
  #at: number;
  #isCommitted = false;

  constructor(fd: number, isFile: boolean) {
    this.#fd = fd;
    this.#isFile = isFile;
    const isAppended = (openFlags(fd) & O_APPEND) !== 0;
    // Old bytes of a device, or an append that ignores positions, would show through holes.
    this.isSparse = isFile && !isAppended;
    this.#startBytes = isAppended ? fstatSync(fd).size : positionOf(fd);
    this.#at = this.#startBytes;
    this.roomBytes = isFile ? undefined : blockDeviceSize(fd) - this.#startBytes;
    if (this.isSparse) ftruncateSync(fd, this.#startBytes);
    const startBytes = this.#startBytes;
    this.positioned = isAppended
      ? undefined
      : new PositionedFile({
          fd,
          label: 'the output',
          isFile,
          startBytes,
          onBegin: (sizeBytes) => {
            this.#at = startBytes + sizeBytes;
          },
        });
  }

  async write(bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await writeAt(
          this.#fd,
          bytes,
          done,
          bytes.length - done,
          this.#at,
        );
        done += bytesWritten;
        this.#at += bytesWritten;
        watch.wrote(bytesWritten);
      }
    } catch (thrown) {
      throw targetFailure(thrown, 'the output');
    }
  }

  skip(lengthBytes: number): Promise<void> {
    this.#at += lengthBytes;
    return Promise.resolve();
  }

  taken(): Promise<void> {
    return Promise.resolve();
  }

  async commit(): Promise<void> {
    try {
      if (this.#isFile) ftruncateSync(this.#fd, this.#at);
      await syncFile(this.#fd);
      if (this.isSparse) seekTo(this.#fd, this.#at);
      this.#isCommitted = true;
    } catch (thrown) {
      throw targetFailure(thrown, 'the output');
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    // The name is the shell's and stays; half an image does not.
    if (!this.#isCommitted && this.#isFile) ftruncateSync(this.#fd, this.#startBytes);
    return Promise.resolve();
  }
}

/**
 * Makes a target of an inherited descriptor, whatever it was redirected to.
 *
 * @throws IngotError `target-is-terminal`
 */
export function openDescriptorTarget(fd: number, isTerminal: boolean): DumpTarget {
  if (isTerminal) {
    throw new IngotError('target-is-terminal', 'an image would be written to the terminal');
  }
  const stat = fstatSync(fd);
  if (stat.isFile() || stat.isBlockDevice()) return new RedirectedTarget(fd, stat.isFile());
  return new PipeTarget(fd, stat.isSocket() ? 'socket' : 'pipe');
}
