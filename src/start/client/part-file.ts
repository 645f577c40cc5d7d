import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { errnoOf, IngotError } from '../../base/index.ts';
import { writeAll } from '../../capture/adapters/write-all.ts';

/** Bytes gathered before they are written. */
const GATHER_BYTES = 1024 * 1024;
const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(GATHER_BYTES);
const MAX_STATE_BYTES = 4096;

const stateSchema = z.strictObject({ version: z.literal(1), etag: z.string().min(1) });

/**
 * A file that is being downloaded: `NAME.part`, with its validator in `NAME.part.json`, until it is
 * whole. Zeros are not written where the whole file may be sparse.
 */
export class PartFile implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #isSparse: boolean;
  readonly #gathered: Buffer = Buffer.allocUnsafe(GATHER_BYTES);
  #gatheredBytes = 0;
  #at: number;

  private constructor(path: string, file: FileHandle, at: number, isSparse: boolean) {
    this.#path = path;
    this.#file = file;
    this.#at = at;
    this.#isSparse = isSparse;
  }

  /**
   * Opens the part file of `path`.
   *
   * @param wanted `etag` names the bytes; `isResumed` goes on with a part of the same bytes
   * @throws IngotError `target-in-use`, `target-full`
   */
  static async open(
    path: string,
    wanted: {
      readonly etag: string;
      readonly sizeBytes: number;
      readonly isResumed: boolean;
      readonly isSparse: boolean;
    },
  ): Promise<PartFile> {
    await refuseSpecial(path);
    const part = `${path}.part`;
    const canResume = wanted.isResumed && (await readEtag(part)) === wanted.etag;
    const file = await openPart(part, canResume);
    try {
      const { size } = await file.stat();
      if (!canResume || size > wanted.sizeBytes) {
        await file.truncate(0);
        await writeFile(`${part}.json`, JSON.stringify({ version: 1, etag: wanted.etag }));
        return new PartFile(path, file, 0, wanted.isSparse);
      }
      // Blocks end where the gathering does, so a part begins at one.
      const at = size - (size % BLOCK_BYTES);
      return new PartFile(path, file, at, wanted.isSparse);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  /** How many bytes of the file are there. */
  get doneBytes(): number {
    return this.#at + this.#gatheredBytes;
  }

  /** Yields the bytes that an earlier download left, for whoever checks the whole. */
  async *existing(): AsyncGenerator<Buffer, void, undefined> {
    const buffer = Buffer.allocUnsafe(GATHER_BYTES);
    for (let at = 0; at < this.#at; ) {
      const wanted = Math.min(buffer.byteLength, this.#at - at);
      const { bytesRead } = await this.#file.read(buffer, 0, wanted, at);
      if (bytesRead === 0)
        throw new IngotError('target-in-use', `${this.#path}.part became shorter`);
      at += bytesRead;
      yield Buffer.from(buffer.subarray(0, bytesRead));
    }
  }

  /** Takes the next bytes. */
  async write(bytes: Buffer): Promise<void> {
    for (let from = 0; from < bytes.byteLength; ) {
      const length = Math.min(bytes.byteLength - from, GATHER_BYTES - this.#gatheredBytes);
      bytes.copy(this.#gathered, this.#gatheredBytes, from, from + length);
      this.#gatheredBytes += length;
      from += length;
      if (this.#gatheredBytes === GATHER_BYTES) await this.#flush();
    }
  }

  /** The file is whole: makes it durable under its own name. */
  async finish(): Promise<void> {
    await this.#flush();
    await translated(this.#path, async () => {
      // A sparse end was never written.
      await this.#file.truncate(this.#at);
      await this.#file.sync();
      await rename(`${this.#path}.part`, this.#path);
      await rm(`${this.#path}.part.json`, { force: true });
      await syncFolder(dirname(this.#path));
    });
  }

  /** The bytes are wrong: nothing of them is kept. */
  async discard(): Promise<void> {
    await rm(`${this.#path}.part`, { force: true });
    await rm(`${this.#path}.part.json`, { force: true });
  }

  /** Closes the file; a part that is not finished stays, to go on with. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #flush(): Promise<void> {
    const bytes = this.#gathered.subarray(0, this.#gatheredBytes);
    await translated(this.#path, async () => {
      for (const [start, end] of this.#isSparse
        ? dataRuns(bytes)
        : [[0, bytes.byteLength] as const]) {
        await writeAll(this.#file, bytes.subarray(start, end), this.#at + start);
      }
    });
    this.#at += this.#gatheredBytes;
    this.#gatheredBytes = 0;
  }
}

/** Runs of 4 KiB blocks that are not all zeros. */
function dataRuns(bytes: Buffer): (readonly [start: number, end: number])[] {
  if (bytes.equals(ZEROS.subarray(0, bytes.byteLength))) return [];
  const runs: [number, number][] = [];
  for (let start = 0; start < bytes.byteLength; start += BLOCK_BYTES) {
    const end = Math.min(start + BLOCK_BYTES, bytes.byteLength);
    if (bytes.subarray(start, end).equals(ZEROS.subarray(0, end - start))) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[1] === start) last[1] = end;
    else runs.push([start, end]);
  }
  return runs;
}

/** A name that a rename would take from a device or a folder is refused. */
async function refuseSpecial(path: string): Promise<void> {
  const found = await stat(path).catch((thrown: unknown) => {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  });
  if (found === undefined || found.isFile()) return;
  throw new IngotError('target-in-use', `${path} is no regular file`, { path });
}

async function openPart(part: string, canResume: boolean): Promise<FileHandle> {
  return await translated(part, async () => {
    if (canResume) return await open(part, 'r+');
    await rm(part, { force: true });
    return await open(part, 'wx+', 0o600);
  });
}

async function readEtag(part: string): Promise<string | undefined> {
  try {
    await stat(part);
    const text = await readFile(`${part}.json`, 'utf8');
    if (text.length > MAX_STATE_BYTES) return undefined;
    return stateSchema.safeParse(JSON.parse(text)).data?.etag;
  } catch {
    // No state that can be read is no state: the download starts anew.
    return undefined;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Runs a step on the file; failures of the system become failures of the table. */
async function translated<T>(path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    const name = join(dirname(path), basename(path));
    const errno = errnoOf(cause);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      throw new IngotError(
        'target-full',
        `no space is left for ${name}`,
        { path: name },
        { cause },
      );
    }
    if (errno === undefined) throw cause;
    throw new IngotError(
      'target-in-use',
      `${name} cannot be written: ${errno}`,
      { path: name },
      { cause },
    );
  }
}
