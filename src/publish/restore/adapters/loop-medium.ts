import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { errnoOf } from '../../../base/index.ts';
import { flushBlockDeviceCache, loopStatus, setLoopDirect } from './device-calls.ts';
import { cachedLoopOf, deviceNumber } from './device-lookup.ts';
import { openDirect } from './direct-file.ts';

/** Direct I/O on files wants the block size of their device; 4096 suits every one of them. */
const BLOCK_BYTES = 4096;

/** Where the bytes of a loop device, or of a partition of one, really lie. */
export interface LoopMedium {
  readonly handle: FileHandle;
  readonly path: string;
  /** Where the device begins in the file. */
  readonly startBytes: number;
  readonly blockBytes: number;
}

/**
 * Opens the file that a loop device is over, to be used instead of the device.
 *
 * O_DIRECT on the device alone passes its own cache, but not that of its file: what is read back
 * would come from this machine's memory, and prove nothing about the disk. Where the file cannot be
 * had here, or its blocks are no blocks of the device, the device is switched to direct I/O, and stays
 * so: who switched it back might not live to do it, or take it from another restore.
 *
 * @param device opened with O_EXCL: nobody else may write to it
 * @returns undefined for what is no loop device, or one that is used itself
 * @see docs/restore.md#loop-devices
 */
export async function openLoopMedium(device: {
  readonly fd: number;
  /** As `/sys` has it: `7:0`. */
  readonly number: string;
  readonly sizeBytes: number;
}): Promise<LoopMedium | undefined> {
  const { fd } = device;
  const loop = cachedLoopOf(device.number);
  if (loop === undefined) return undefined;
  const status = loopStatus(fd);
  const startBytes = status.offsetBytes + loop.partitionStartBytes;
  // A last block that is half behind the device belongs to somebody else.
  const isAligned = startBytes % BLOCK_BYTES === 0 && device.sizeBytes % BLOCK_BYTES === 0;
  const handle = isAligned ? await openFile(loop.path, status) : undefined;
  if (handle === undefined) {
    await switchToDirect(fd);
    return undefined;
  }
  await using undo = new AsyncDisposableStack();
  undo.use(handle);
  // What somebody left in the device's own cache must not come over what is written behind its back.
  await flushBlockDeviceCache(fd);
  undo.move();
  return { handle, path: loop.path, startBytes, blockBytes: BLOCK_BYTES };
}

/** @returns undefined when the path names another file here, or has no O_DIRECT */
async function openFile(
  path: string,
  { device, inode }: { readonly device: bigint; readonly inode: bigint },
): Promise<FileHandle | undefined> {
  await using undo = new AsyncDisposableStack();
  const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    const { handle, isDirect } = await openDirect(path, flags);
    undo.use(handle);
    const found = await handle.stat({ bigint: true });
    const isIt = found.ino === inode && deviceNumber(found.dev) === deviceNumber(device);
    if (!isDirect || !found.isFile() || !isIt) return undefined;
    undo.move();
    return handle;
  } catch (thrown) {
    // Deleted, on a mount that is not seen from here, or not ours to write.
    if (errnoOf(thrown) === undefined) throw thrown;
    return undefined;
  }
}

async function switchToDirect(fd: number): Promise<void> {
  try {
    await setLoopDirect(fd);
  } catch (thrown) {
    // The filesystem of the file has no O_DIRECT: tmpfs, whose memory is the medium.
    if (!['EOPNOTSUPP', 'ENOTTY', 'EINVAL'].includes(errnoOf(thrown) ?? '')) throw thrown;
  }
}
