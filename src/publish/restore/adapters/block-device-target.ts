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
  zeroOutRange,
} from './device-calls.ts';
import { deviceNumber, usersOf, writesZeroesByItself } from './device-lookup.ts';
import { openDirect, readBlocks, writeBlocks, writeFailure } from './direct-file.ts';
import { type LoopMedium, openLoopMedium } from './loop-medium.ts';

/** A block device that nobody else uses, through O_DIRECT. */
class BlockDeviceTarget implements RestoreTarget {
  readonly facts: TargetFacts;
  readonly blockBytes: number;
  readonly isBlank = false;
  readonly zeroesCheaply: boolean;
  readonly #handle: FileHandle;
  readonly #isDirect: boolean;
  readonly #medium: Pick<LoopMedium, 'handle' | 'path' | 'startBytes'>;
  /** What is undone when it is closed. */
  readonly #undo: AsyncDisposableStack;

  constructor(setup: {
    readonly facts: TargetFacts;
    readonly blockBytes: number;
    readonly zeroesCheaply: boolean;
    readonly handle: FileHandle;
    readonly isDirect: boolean;
    readonly medium: LoopMedium | undefined;
    readonly undo: AsyncDisposableStack;
  }) {
    this.facts = setup.facts;
    this.blockBytes = setup.blockBytes;
    this.zeroesCheaply = setup.zeroesCheaply;
    this.#handle = setup.handle;
    this.#isDirect = setup.isDirect;
    const { handle, facts } = setup;
    this.#medium = setup.medium ?? { handle, path: facts.path, startBytes: 0 };
    this.#undo = setup.undo;
  }

  allocate(lengthBytes: number): Buffer<ArrayBuffer> {
    return alignedBuffer(lengthBytes);
  }

  read(buffer: Buffer, offsetBytes: number): Promise<void> {
    const { handle, path, startBytes } = this.#medium;
    return readBlocks(handle, buffer, { path, offsetBytes: startBytes + offsetBytes });
  }

  write(buffer: Buffer, offsetBytes: number): Promise<void> {
    const { handle, path, startBytes } = this.#medium;
    return writeBlocks(handle, buffer, { path, offsetBytes: startBytes + offsetBytes });
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { fd } = this.#handle;
    const medium = this.#medium;
    try {
      // The kernel promises zeros here, or refuses.
      await punchHole(medium.handle.fd, medium.startBytes + offsetBytes, lengthBytes);
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
      const medium = this.#medium.handle;
      // What is written behind the device's back leaves its own cache as it was.
      const hasCache = !this.#isDirect || medium !== this.#handle;
      if (hasCache) await flushBlockDeviceCache(this.#handle.fd);
      await medium.sync();
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
  const facts: TargetFacts = { path, kind: 'block-device', sizeBytes: blockDeviceSize(fd) };
  const loop = { fd, number: device, sizeBytes: facts.sizeBytes };
  const medium = writes && isDirect ? await openLoopMedium(loop) : undefined;
  if (medium !== undefined) undo.use(medium.handle);
  const blockBytes = Math.max(logicalBlockBytes(fd), medium?.blockBytes ?? 0);
  const zeroesCheaply = writesZeroesByItself(device);
  const opened = { facts, blockBytes, zeroesCheaply, handle, isDirect, medium };
  return new BlockDeviceTarget({ ...opened, undo: undo.move() });
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
