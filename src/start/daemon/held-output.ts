import { closeSync, constants, type Stats, write } from 'node:fs';
import { readlink, realpath, stat } from 'node:fs/promises';
import { sep } from 'node:path';
import { promisify } from 'node:util';
import { IngotError, MIB } from '../../base/index.ts';
import {
  type BlockFile,
  DirectWriter,
  takesDirectWrites,
} from '../../capture/adapters/direct-writer.ts';
import { openFlags } from '../../capture/adapters/libc.ts';
import { targetFailure } from '../../capture/adapters/target-failure.ts';
import type { HandedOutput } from '../../keep/index.ts';

const writeAt = promisify(write);

/** Enough to keep a disk busy, and few enough that other work of the process finds a thread. */
const AHEAD = { writesAhead: 4, roomBytes: MIB };

/** Blocks in which stat(2) counts. */
const STAT_BLOCK_BYTES = 512;
const SET_ID_BITS = 0o6000;

/** What is known of a file that is to be written. */
interface OutputFacts {
  /** For people. */
  readonly name: string;
  /** The daemon's own, where nothing is written for a client. */
  readonly dataFolder: string;
}

/**
 * Holds a file that a process of this machine has opened, so that a part of it is written here.
 *
 * The descriptors show that the client may write the file; nothing is opened. It is written only
 * where space was kept for it, so nothing is taken that this process may use and the client not.
 *
 * @param descriptors one through the page cache, one past it; the caller's when this throws
 * @throws IngotError `not-allowed`
 */
export async function heldOutput(
  descriptors: readonly number[],
  facts: OutputFacts,
): Promise<HandedOutput> {
  const [buffered, direct, ...others] = descriptors;
  if (buffered === undefined || direct === undefined || others.length > 0) {
    throw refused(facts.name, 'it was not handed over twice');
  }
  const file = await stat(pathOf(buffered));
  await checkFile(file, buffered, facts);
  const again = await stat(pathOf(direct));
  if (again.dev !== file.dev || again.ino !== file.ino) {
    throw refused(facts.name, 'two files were handed over');
  }
  checkFlags(openFlags(buffered), facts.name);
  const flags = openFlags(direct);
  checkFlags(flags, facts.name);
  if ((flags & constants.O_DIRECT) === 0) throw refused(facts.name, 'it is not open for O_DIRECT');
  return new HeldOutput({ buffered, direct }, file, facts.name);
}

async function checkFile(
  file: Stats,
  fd: number,
  { name, dataFolder }: OutputFacts,
): Promise<void> {
  if (!file.isFile()) throw refused(name, 'it is no regular file');
  // A client's own write would take them away; one of root's does not.
  if ((file.mode & SET_ID_BITS) !== 0) throw refused(name, 'it has set-id bits');
  // A filesystem of somebody's own program could hold every thread of this process.
  if (!(await takesDirectWrites(pathOf(fd)))) throw refused(name, 'its filesystem does not suit');
  const path = await readlink(pathOf(fd));
  if (path.startsWith(`${await realpath(dataFolder)}${sep}`)) {
    throw refused(name, 'it is a file of the library');
  }
}

function checkFlags(flags: number, name: string): void {
  const access = flags & (constants.O_WRONLY | constants.O_RDWR);
  if (access === 0) throw refused(name, 'it is not open for writing');
  if ((flags & constants.O_APPEND) !== 0) throw refused(name, 'it is open for appending');
}

function refused(name: string, why: string): IngotError {
  return new IngotError('not-allowed', `the daemon does not write to ${name}: ${why}`);
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function blockFile(fd: number): BlockFile {
  return { write: (...[bytes, start, length, at]) => writeAt(fd, bytes, start, length, at) };
}

class HeldOutput implements HandedOutput {
  readonly sizeBytes: number;
  readonly #name: string;
  readonly #descriptors: readonly number[];
  readonly #writer: DirectWriter;
  #isOpen = true;

  constructor(
    { buffered, direct }: { readonly buffered: number; readonly direct: number },
    file: Stats,
    name: string,
  ) {
    this.sizeBytes = Math.min(file.size, file.blocks * STAT_BLOCK_BYTES);
    this.#name = name;
    this.#descriptors = [buffered, direct];
    const files = { buffered: blockFile(buffered), direct: blockFile(direct) };
    this.#writer = DirectWriter.over(files, AHEAD);
  }

  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    try {
      await this.#writer.write(bytes, offsetBytes);
    } catch (thrown) {
      throw targetFailure(thrown, this.#name);
    }
  }

  async flush(): Promise<void> {
    try {
      await this.#writer.flush();
    } catch (thrown) {
      throw targetFailure(thrown, this.#name);
    }
  }

  /** Waits for what is on its way to the disk: the descriptors are in use until then. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#writer[Symbol.asyncDispose]();
    for (const fd of this.#descriptors) closeSync(fd);
  }
}
