import { constants } from 'node:os';
import koffi from 'koffi';
import { alignedMemory } from '../../../base/index.ts';

const libc = koffi.load('libc.so.6');
// Declared with three fixed parameters: on x86-64 and arm64 Linux a pointer or integer is passed
// to a variadic function in the same register.
const rawIoctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const rawFallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const rawAdvise = libc.func(
  'int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)',
);
const rawFlock = libc.func('int flock(int fd, int operation)');

/** @see linux/fs.h */
const BLKROGET = 0x125e;
const BLKFLSBUF = 0x1261;
const BLKSSZGET = 0x1268;
const BLKDISCARD = 0x1277;
const BLKZEROOUT = 0x127f;
const BLKGETSIZE64 = 0x80081272;
/** @see linux/loop.h */
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_SET_DIRECT_IO = 0x4c08;
const LOOP_INFO64_BYTES = 232;
/** @see linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
/** @see fcntl.h */
const POSIX_FADV_DONTNEED = 4;
/** @see sys/file.h */
const LOCK_EX_NB = 2 | 4;

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** A failed call into the C library; `code` is the errno's name, as in Node's own errors. */
class DeviceCallError extends Error {
  override readonly name = 'DeviceCallError';
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

function rangeOf(offsetBytes: number, lengthBytes: number): Buffer {
  const range = Buffer.alloc(16);
  range.writeBigUInt64LE(BigInt(offsetBytes), 0);
  range.writeBigUInt64LE(BigInt(lengthBytes), 8);
  return range;
}

/** Calls on another thread, for calls that wait for the medium. */
function onThread(
  call: string,
  func: ReturnType<typeof libc.func>,
  ...args: readonly unknown[]
): Promise<void> {
  return new Promise((resolve, reject) => {
    func.async(...args, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      // koffi keeps the errno of an asynchronous call for its callback.
      else if (result !== 0) reject(new DeviceCallError(call, koffi.errno()));
      else resolve();
    });
  });
}

/** @returns a block device's size in bytes */
export function blockDeviceSize(fd: number): number {
  const size = Buffer.alloc(8);
  if (rawIoctl(fd, BLKGETSIZE64, size) !== 0) {
    throw new DeviceCallError('BLKGETSIZE64', koffi.errno());
  }
  return Number(size.readBigUInt64LE());
}

/** @returns what every offset and length of direct I/O must be a multiple of */
export function logicalBlockBytes(fd: number): number {
  const size = Buffer.alloc(4);
  if (rawIoctl(fd, BLKSSZGET, size) !== 0) throw new DeviceCallError('BLKSSZGET', koffi.errno());
  return size.readInt32LE();
}

/** Tells whether the device is set to read-only. */
export function isReadOnly(fd: number): boolean {
  const flag = Buffer.alloc(4);
  if (rawIoctl(fd, BLKROGET, flag) !== 0) throw new DeviceCallError('BLKROGET', koffi.errno());
  return flag.readInt32LE() !== 0;
}

/** Writes what the page cache holds of a block device, and drops it. */
export function flushBlockDeviceCache(fd: number): Promise<void> {
  return onThread('BLKFLSBUF', rawIoctl, fd, BLKFLSBUF, null);
}

/**
 * Tells a device that a range is not needed any more. What it reads as afterwards is the device's
 * own business.
 */
export function discardRange(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  return onThread('BLKDISCARD', rawIoctl, fd, BLKDISCARD, rangeOf(offsetBytes, lengthBytes));
}

/** Makes a range of a device read as zeros; the kernel writes them where the device cannot. */
export function zeroOutRange(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  return onThread('BLKZEROOUT', rawIoctl, fd, BLKZEROOUT, rangeOf(offsetBytes, lengthBytes));
}

/**
 * Makes a range read as zeros and gives its space back: of a file, or of a device that can do it
 * without writing zeros (else `EOPNOTSUPP`).
 *
 * @see fallocate(2) FALLOC_FL_PUNCH_HOLE
 */
export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return onThread('fallocate', rawFallocate, fd, mode, offsetBytes, lengthBytes);
}

/**
 * Has a loop device read and write its file past the page cache. That may be done at any time: the
 * kernel stops the device for a moment and writes what the cache has.
 *
 * @throws Error with the code `EINVAL` when the filesystem of the file does not know O_DIRECT
 */
export function setLoopDirect(fd: number): Promise<void> {
  return onThread('LOOP_SET_DIRECT_IO', rawIoctl, fd, LOOP_SET_DIRECT_IO, 1n);
}

/**
 * Asks which file a loop device is over, and where in it the device begins.
 *
 * @returns the file by its device (a `dev_t` in 32 bits) and inode
 * @see loop(4), linux/loop.h `struct loop_info64`
 */
export function loopStatus(fd: number): {
  readonly device: bigint;
  readonly inode: bigint;
  readonly offsetBytes: number;
} {
  const info = Buffer.alloc(LOOP_INFO64_BYTES);
  if (rawIoctl(fd, LOOP_GET_STATUS64, info) !== 0) {
    throw new DeviceCallError('LOOP_GET_STATUS64', koffi.errno());
  }
  return {
    device: info.readBigUInt64LE(0),
    inode: info.readBigUInt64LE(8),
    offsetBytes: Number(info.readBigUInt64LE(24)),
  };
}

/** Drops the clean pages that the cache holds of a file. */
export function dropFileCache(fd: number): void {
  const errno = rawAdvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  if (errno !== 0) throw new DeviceCallError('posix_fadvise', errno);
}

/** Locks a file against other restores. @returns false when somebody else has it */
export function lockFile(fd: number): boolean {
  if (rawFlock(fd, LOCK_EX_NB) === 0) return true;
  const errno = koffi.errno();
  if (errno === constants.errno.EWOULDBLOCK) return false;
  throw new DeviceCallError('flock', errno);
}

/** Allocates memory that O_DIRECT takes. */
export function alignedBuffer(lengthBytes: number): Buffer<ArrayBuffer> {
  return alignedMemory(lengthBytes, koffi.address, (length) => Buffer.allocUnsafeSlow(length));
}
