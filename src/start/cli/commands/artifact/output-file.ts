import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import { writeAll } from '../../../../capture/adapters/write-all.ts';
import type { ArtifactTarget } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { type OutputFile, PartialFile } from './partial-file.ts';

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
  const check = (sizeBytes: number): void => {
    if (sizeBytes <= maxBytes) return;
    throw new IngotError(
      'artifact-too-large',
      `the artifact is larger than the limit of ${maxBytes} bytes`,
      { maxBytes },
    );
  };
  let writtenBytes = 0;
  return {
    patch: target.patch,
    ...(target.writeApart === undefined
      ? {}
      : {
          writeApart: async (lengthBytes, write) => {
            check(writtenBytes + lengthBytes);
            const isWritten = (await target.writeApart?.(lengthBytes, write)) ?? false;
            if (isWritten) writtenBytes += lengthBytes;
            return isWritten;
          },
        }),
    reserve: async (sizeBytes) => {
      check(sizeBytes);
      await target.reserve?.(sizeBytes);
    },
    write: (bytes) => {
      writtenBytes += bytes.byteLength;
      check(writtenBytes);
      return target.write(bytes);
    },
  };
}
