import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import type { ArtifactTarget } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';

/** Where an artifact is written: whole or not at all, where that is possible. */
export interface OutputFile extends ArtifactTarget, AsyncDisposable {
  /** For people. */
  readonly name: string;
  /** Makes the file durable and gives it its name. */
  commit(): Promise<void>;
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await folder.sync();
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number | null) {
  for (let done = 0; done < bytes.byteLength; ) {
    const at = position === null ? null : position + done;
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, at);
    done += bytesWritten;
  }
}

/** Small pieces are gathered up to this. */
const GATHER_BYTES = 1024 * 1024;
/** So much is handed to the disk at once. */
const SYNC_BYTES = 64 * 1024 * 1024;
/** Larger ones are written as they are. */
const LARGE_BYTES = 256 * 1024;

/** A file under a temporary name beside the final one. */
class PartialFile implements OutputFile {
  readonly name: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  /** Where the next write goes to. */
  #at = 0;
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  /** The block that is being written, and when it is. */
  #other: Buffer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #syncing: Promise<void> | undefined;
  #unsyncedBytes = 0;
  #isCommitted = false;

  constructor(name: string, partial: string, handle: FileHandle) {
    this.name = name;
    this.#partial = partial;
    this.#handle = handle;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength >= LARGE_BYTES) {
      await this.#flush();
      this.#begin(bytes);
      await this.#writing;
      return;
    }
    for (let from = 0; from < bytes.byteLength; ) {
      this.#gathered ??= Buffer.allocUnsafeSlow(GATHER_BYTES);
      const length = Math.min(bytes.byteLength - from, GATHER_BYTES - this.#gatheredBytes);
      this.#gathered.set(bytes.subarray(from, from + length), this.#gatheredBytes);
      this.#gatheredBytes += length;
      from += length;
      if (this.#gatheredBytes === GATHER_BYTES) await this.#turn();
    }
  }

  readonly patch = async (bytes: Uint8Array): Promise<void> => {
    await this.#flush();
    try {
      await writeAll(this.#handle, bytes, 0);
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  };

  async commit(): Promise<void> {
    await this.#flush();
    try {
      await this.#syncing;
      await this.#handle.sync();
      await rename(this.#partial, this.name);
      this.#isCommitted = true;
      await syncFolder(dirname(this.name));
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#writing, this.#syncing]);
    await this.#handle.close();
    if (!this.#isCommitted) await rm(this.#partial, { force: true });
  }

  async #flush(): Promise<void> {
    if (this.#gatheredBytes > 0) await this.#turn();
    await this.#writing;
  }

  /** Begins to write what was gathered; the next is gathered meanwhile. */
  async #turn(): Promise<void> {
    await this.#writing;
    const block = this.#gathered ?? Buffer.alloc(0);
    this.#begin(block.subarray(0, this.#gatheredBytes));
    this.#gathered = this.#other;
    this.#other = block;
    this.#gatheredBytes = 0;
  }

  #begin(bytes: Uint8Array): void {
    const at = this.#at;
    this.#at += bytes.byteLength;
    this.#writing = writeAll(this.#handle, bytes, at).then(
      () => this.#syncNowAndThen(bytes.byteLength),
      (thrown: unknown) => {
        throw targetFailure(thrown, this.name);
      },
    );
    // Whoever writes next, or commits, hears of it.
    this.#writing.catch(() => undefined);
  }

  /** Has the disk at work meanwhile, so that the commit has little left to wait for. */
  #syncNowAndThen(writtenBytes: number): void {
    this.#unsyncedBytes += writtenBytes;
    if (this.#unsyncedBytes < SYNC_BYTES) return;
    this.#unsyncedBytes = 0;
    // One after another; the first failure stays, and the commit hears of it.
    const syncing = (this.#syncing ?? Promise.resolve()).then(() => this.#handle.datasync());
    syncing.catch(() => undefined);
    this.#syncing = syncing;
  }
}

/** A pipe or a device: written front to back, under its own name. */
class PlainOutput implements OutputFile {
  readonly name: string;
  readonly patch = undefined;
  readonly #handle: FileHandle;

  constructor(name: string, handle: FileHandle) {
    this.name = name;
    this.#handle = handle;
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await writeAll(this.#handle, bytes, null);
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  }

  commit(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close();
  }
}

/**
 * Opens standard output as a target; it stays open.
 *
 * @throws IngotError `target-is-terminal`
 */
function openStdout(
  { stdout }: Pick<CliContext, 'stdout'>,
  { allowsTerminal = false }: { readonly allowsTerminal?: boolean },
): OutputFile {
  if (!allowsTerminal && 'isTTY' in stdout && stdout.isTTY === true) {
    throw new IngotError('target-is-terminal', 'stdout is a terminal; use -o FILE or a pipe');
  }
  return {
    name: 'stdout',
    patch: undefined,
    write: async (bytes) => {
      if (!stdout.writable) throw new IngotError('target-closed', 'the reader of stdout went away');
      // Until it is written, not only taken: the writer uses the memory again.
      const written = Promise.withResolvers<void>();
      stdout.once('close', written.resolve);
      stdout.write(bytes, () => written.resolve());
      await written.promise;
      stdout.off('close', written.resolve);
    },
    commit: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** The status of a file, or undefined when there is none. */
async function statusOf(path: string) {
  try {
    return await stat(path);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

/**
 * Opens a file that appears under its name only when it is whole; links are followed, and a file
 * that is replaced keeps its mode and owner. Pipes and devices are written as they are.
 *
 * @throws IngotError `file-not-found` when the folder is missing, `target-unwritable`
 */
async function openOutputFile(path: string, mode = 0o666): Promise<OutputFile> {
  try {
    const before = await statusOf(path);
    if (before !== undefined && !before.isFile()) {
      return new PlainOutput(path, await open(path, 'w'));
    }
    const final =
      before === undefined
        ? join(await realpath(dirname(path)), basename(path))
        : await realpath(path);
    const tail = randomBytes(6).toString('hex');
    const partial = join(dirname(final), `.${basename(final)}.${tail}.partial`);
    const handle = await open(partial, 'wx', mode);
    const output = new PartialFile(final, partial, handle);
    if (before !== undefined) {
      await handle.chmod(before.mode & 0o7777);
      await handle.chown(before.uid, before.gid).catch((thrown: unknown) => {
        // Only root may give files away; the content matters more than the owner.
        if (errnoOf(thrown) !== 'EPERM') throw thrown;
      });
    }
    return output;
  } catch (thrown) {
    throw targetFailure(thrown, path);
  }
}

/**
 * Opens a file that must not be there yet.
 *
 * @param mode permission bits, less the umask
 * @throws IngotError `target-unwritable` (also when it is there), `file-not-found`
 */
export async function openNewFile(path: string, mode: number): Promise<OutputFile> {
  if ((await statusOf(path)) !== undefined) {
    throw new IngotError('target-unwritable', `${path} is there already`, { path });
  }
  return await openOutputFile(path, mode);
}

/** Opens what `-o` names: `-` is stdout. */
export function openOutput(
  path: string,
  context: CliContext,
  options: { readonly allowsTerminal?: boolean } = {},
): Promise<OutputFile> {
  return path === '-' ? Promise.resolve(openStdout(context, options)) : openOutputFile(path);
}

/** Opens a file that gets these permission bits, less the umask; `-` is stdout. */
export function openOutputWithMode(
  path: string,
  mode: number,
  context: CliContext,
): Promise<OutputFile> {
  return path === '-' ? openOutput(path, context) : openOutputFile(path, mode);
}

/**
 * Passes bytes on until there are too many.
 *
 * @throws IngotError `artifact-too-large` from the write that would exceed the limit
 */
export function withMaxSize(target: OutputFile, maxBytes: number | undefined): ArtifactTarget {
  if (maxBytes === undefined) return target;
  let writtenBytes = 0;
  return {
    patch: target.patch,
    write: (bytes) => {
      writtenBytes += bytes.byteLength;
      if (writtenBytes > maxBytes) {
        throw new IngotError(
          'artifact-too-large',
          `the artifact is larger than the limit of ${maxBytes} bytes`,
          { maxBytes },
        );
      }
      return target.write(bytes);
    },
  };
}
