import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../../base/index.ts';
import type { RestoreTarget, TargetFacts } from '../restore-target.ts';
import {
  alignedBuffer,
  blockDeviceSize,
  discardRange,
  flushBlockDeviceCache,
  isReadOnly,
  logicalBlockBytes,
  punchHole,
  setLoopDirect,
  zeroOutRange,
} from './device-calls.ts';
import { deviceNumber, isCachedLoop, usersOf, writesZeroesByItself } from './device-lookup.ts';
import { openDirect, readBlocks, writeBlocks, writeFailure } from './direct-file.ts';

/** A block device that nobody else uses, through O_DIRECT. */
class BlockDeviceTarget implements RestoreTarget {
  readonly facts: TargetFacts;
  readonly blockBytes: number;
  readonly isBlank = false;
  readonly zeroesCheaply: boolean;
  readonly #handle: FileHandle;
  readonly #isDirect: boolean;
  /** What is undone when it is closed. */
  readonly #undo: AsyncDisposableStack;

  constructor(setup: {
    readonly facts: TargetFacts;
    readonly blockBytes: number;
    readonly zeroesCheaply: boolean;
    readonly handle: FileHandle;
    readonly isDirect: boolean;
    readonly undo: AsyncDisposableStack;
  }) {
    this.facts = setup.facts;
    this.blockBytes = setup.blockBytes;
    this.zeroesCheaply = setup.zeroesCheaply;
    this.#handle = setup.handle;
    this.#isDirect = setup.isDirect;
    this.#undo = setup.undo;
  }

  allocate(lengthBytes: number): Buffer<ArrayBuffer> {
    return alignedBuffer(lengthBytes);
  }

  read(buffer: Buffer, offsetBytes: number): Promise<void> {
    return readBlocks(this.#handle, buffer, { path: this.facts.path, offsetBytes });
  }

  write(buffer: Buffer, offsetBytes: number): Promise<void> {
    return writeBlocks(this.#handle, buffer, { path: this.facts.path, offsetBytes });
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { fd } = this.#handle;
    try {
      // The kernel promises zeros here, or refuses.
      await punchHole(fd, offsetBytes, lengthBytes);
      return;
    } catch (thrown) {
      if (!isUnsupported(thrown)) throw writeFailure(this.facts.path, offsetBytes, thrown);
    }
    try {
      // Frees the blocks of a card. What they read as then is not promised, so zeros follow.
      await discardRange(fd, offsetBytes, lengthBytes);
    } catch (thrown) {
      if (!isUnsupported(thrown)) throw writeFailure(this.facts.path, offsetBytes, thrown);
    }
    try {
      await zeroOutRange(fd, offsetBytes, lengthBytes);
    } catch (thrown) {
      throw writeFailure(this.facts.path, offsetBytes, thrown);
    }
  }

  async sync(): Promise<void> {
    try {
      await this.#handle.sync();
      if (!this.#isDirect) await flushBlockDeviceCache(this.#handle.fd);
    } catch (thrown) {
      throw writeFailure(this.facts.path, 0, thrown);
    }
  }

  async publish(): Promise<void> {
    // A device has its name already.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo.disposeAsync();
  }
}

function isUnsupported(thrown: unknown): boolean {
  return ['EOPNOTSUPP', 'ENOTTY', 'EINVAL'].includes(errnoOf(thrown) ?? '');
}

/**
 * Opens a block device to be overwritten.
 *
 * @param options `writes: false` opens it for comparing only, also while it is in use
 * @throws IngotError `target-in-use` (mounted, swap, part of an array, read-only), `not-root`,
 *   `source-not-found`
 */
export async function openBlockDeviceTarget(
  path: string,
  { writes = true }: { readonly writes?: boolean } = {},
): Promise<RestoreTarget> {
  await using undo = new AsyncDisposableStack();
  const { handle, isDirect } = await openDevice(path, writes);
  undo.use(handle);
  const { fd } = handle;
  if (writes && isReadOnly(fd)) {
    throw new IngotError('target-in-use', `${path} is set to read-only`, { path });
  }
  const device = deviceNumber((await handle.stat({ bigint: true })).rdev);
  if (writes && isDirect && isCachedLoop(device)) undo.use(await bypassLoopCache(fd));
  const facts: TargetFacts = { path, kind: 'block-device', sizeBytes: blockDeviceSize(fd) };
  const blockBytes = logicalBlockBytes(fd);
  const zeroesCheaply = writesZeroesByItself(device);
  const opened = { facts, blockBytes, zeroesCheaply, handle, isDirect };
  return new BlockDeviceTarget({ ...opened, undo: undo.move() });
}

/**
 * Takes the page cache out from under a loop device until it is disposed. O_DIRECT on the device
 * alone passes its own cache, but not that of its file: what is read back would come from this
 * machine's memory, and prove nothing about the disk.
 */
async function bypassLoopCache(fd: number): Promise<AsyncDisposable> {
  try {
    await setLoopDirect(fd, true);
  } catch (thrown) {
    // The filesystem of the file has no O_DIRECT: tmpfs, whose memory is the medium.
    if (!isUnsupported(thrown)) throw thrown;
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  return { [Symbol.asyncDispose]: () => setLoopDirect(fd, false) };
}

async function openDevice(
  path: string,
  writes: boolean,
): Promise<{ readonly handle: FileHandle; readonly isDirect: boolean }> {
  // O_EXCL on a block device: nobody has it mounted, as swap or in an array, nor a partition of it.
  const flags = writes ? constants.O_RDWR | constants.O_EXCL : constants.O_RDONLY;
  try {
    return await openDirect(path, flags);
  } catch (thrown) {
    const errno = errnoOf(thrown) ?? 'an error';
    if (errno === 'EBUSY') {
      const users = await usersOf(path);
      const reason = users.length === 0 ? 'in use' : users.join(', ');
      throw new IngotError('target-in-use', `${path} is ${reason}`, { path }, { cause: thrown });
    }
    const code =
      errno === 'EROFS'
        ? 'target-in-use'
        : errno === 'EACCES' || errno === 'EPERM'
          ? 'not-root'
          : 'source-not-found';
    throw new IngotError(code, `${path} cannot be opened: ${errno}`, { path }, { cause: thrown });
  }
}
