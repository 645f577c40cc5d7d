import { constants } from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
// Declared with three fixed parameters: on x86-64 and arm64 Linux a pointer or integer is passed
// to a variadic function in the same register.
const rawIoctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const rawSyncfs = libc.func('int syncfs(int fd)');
const rawLseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
const rawPoll = libc.func('int poll(void *fds, unsigned long count, int timeout)');
const rawFallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const rawFlock = libc.func('int flock(int fd, int operation)');
const rawFcntl = libc.func('int fcntl(int fd, int command, long argument)');
const rawMmap = libc.func(
  'int64_t mmap(uint64_t address, uint64_t length, int protection, int flags, int fd, int64_t offset)',
);
const rawMunmap = libc.func('int munmap(uint64_t address, uint64_t length)');
const rawMincore = libc.func('int mincore(uint64_t address, uint64_t length, void *pages)');
const PAGE_BYTES: number = libc.func('int getpagesize()')();

/** @see linux/fs.h, asm-generic/ioctls.h */
const FIFREEZE = 0xc0045877;
const FITHAW = 0xc0045878;
const BLKGETSIZE64 = 0x80081272;
const BLKFLSBUF = 0x1261;
const BLKBSZGET = 0x80081270;
const BLKSSZGET = 0x1268;
const FIONREAD = 0x541b;
const SIOCOUTQ = 0x5411;
/** @see linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
/** @see sys/file.h */
const LOCK_EX_NB = 2 | 4;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const F_GETFL = 3;
const F_SETFL = 4;
/** @see fcntl(2): Linux only */
const F_SETPIPE_SZ = 1031;
const O_NONBLOCK = 0o4000;
const POLLOUT = 4;
const POLLERR = 8;
const POLLHUP = 16;
/** @see mman(2) */
const PROT_NONE = 0;
const MAP_SHARED = 1;

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** A failed call into the C library; `code` is the errno's name, as in Node's own errors. */
class LibcError extends Error {
  override readonly name = 'LibcError';
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** @returns the errno's name when the call failed */
function ioctlErrno(fd: number, request: number): string | undefined {
  if (rawIoctl(fd, request, null) === 0) return undefined;
  const errno = koffi.errno();
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/**
 * Freezes the filesystem that `fd` is on; returns once all of it is on its device.
 *
 * @returns undefined, or the errno's name: `EBUSY` when it is frozen already
 * @see ioctl_fs(2) FIFREEZE
 */
export function freezeFilesystem(fd: number): string | undefined {
  return ioctlErrno(fd, FIFREEZE);
}

/** @returns undefined, or the errno's name: `EINVAL` when it was not frozen */
export function thawFilesystem(fd: number): string | undefined {
  return ioctlErrno(fd, FITHAW);
}

/** @returns a block device's size in bytes */
export function blockDeviceSize(fd: number): number {
  const size = Buffer.alloc(8);
  if (rawIoctl(fd, BLKGETSIZE64, size) !== 0) throw new LibcError('BLKGETSIZE64', koffi.errno());
  return Number(size.readBigUInt64LE());
}

/** @returns the block size that a device's cache uses: that of the filesystem mounted from it */
export function cacheBlockSize(fd: number): number {
  const size = Buffer.alloc(8);
  if (rawIoctl(fd, BLKBSZGET, size) !== 0) throw new LibcError('BLKBSZGET', koffi.errno());
  return size.readInt32LE();
}

/** @returns the smallest unit that a device reads and writes, in which its partition table counts */
export function logicalBlockSize(fd: number): number {
  const size = Buffer.alloc(4);
  if (rawIoctl(fd, BLKSSZGET, size) !== 0) throw new LibcError('BLKSSZGET', koffi.errno());
  return size.readInt32LE();
}

/** Drops what the page cache holds of a block device, after writing what is dirty. */
export function flushBlockDeviceCache(fd: number): void {
  if (rawIoctl(fd, BLKFLSBUF, null) !== 0) throw new LibcError('BLKFLSBUF', koffi.errno());
}

/** Writes what the filesystem of `fd` holds back, on another thread. */
export function syncFilesystem(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    rawSyncfs.async(fd, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      else if (result !== 0) reject(new LibcError('syncfs', constants.errno.EIO));
      else resolve();
    });
  });
}

/**
 * Finds the next run of data of a sparse file.
 *
 * @returns where data begins and ends at or after `offsetBytes`, or undefined after the last
 * @see lseek(2) SEEK_DATA, SEEK_HOLE
 */
export function nextData(
  fd: number,
  offsetBytes: number,
): { readonly start: number; readonly end: number } | undefined {
  const start = Number(rawLseek(fd, offsetBytes, SEEK_DATA));
  if (start < 0) {
    const errno = koffi.errno();
    if (errno === constants.errno.ENXIO) return undefined;
    throw new LibcError('lseek SEEK_DATA', errno);
  }
  const end = Number(rawLseek(fd, start, SEEK_HOLE));
  if (end < 0) throw new LibcError('lseek SEEK_HOLE', koffi.errno());
  return { start, end };
}

/**
 * Tells how much of a range of a file is in the page cache. Of a file that the caller neither owns nor
 * may write the kernel says that all of it is.
 *
 * @returns bytes; all of them where nobody can tell
 * @see mincore(2)
 */
export function residentBytes(fd: number, offsetBytes: number, lengthBytes: number): number {
  const start = offsetBytes - (offsetBytes % PAGE_BYTES);
  const sizeBytes = offsetBytes + lengthBytes - start;
  const address = BigInt(rawMmap(0, sizeBytes, PROT_NONE, MAP_SHARED, fd, start));
  if (address < 0n) return lengthBytes;
  try {
    const pages = Buffer.alloc(Math.ceil(sizeBytes / PAGE_BYTES));
    if (rawMincore(address, sizeBytes, pages) !== 0) return lengthBytes;
    const resident = pages.reduce((count, page) => count + (page & 1), 0);
    return Math.min(resident * PAGE_BYTES, lengthBytes);
  } finally {
    rawMunmap(address, sizeBytes);
  }
}

/** Moves a descriptor's own position, which a later writer of the same redirection continues at. */
export function seekTo(fd: number, offsetBytes: number): void {
  if (rawLseek(fd, offsetBytes, 0) < 0) throw new LibcError('lseek', koffi.errno());
}

/** @returns a descriptor's own position */
export function positionOf(fd: number): number {
  const at = Number(rawLseek(fd, 0, 1));
  if (at < 0) throw new LibcError('lseek', koffi.errno());
  return at;
}

/** @returns the open flags (`O_APPEND`, …) */
export function openFlags(fd: number): number {
  const flags: number = rawFcntl(fd, F_GETFL, 0);
  if (flags < 0) throw new LibcError('fcntl F_GETFL', koffi.errno());
  return flags;
}

/**
 * Makes writes return `EAGAIN` instead of waiting.
 *
 * @returns what puts the flag back as it was
 */
export function setNonBlocking(fd: number): () => void {
  const flags = openFlags(fd);
  rawFcntl(fd, F_SETFL, flags | O_NONBLOCK);
  return () => {
    rawFcntl(fd, F_SETFL, flags);
  };
}

/**
 * Makes a pipe hold more, so that its writer and reader wait for each other less often. Where that
 * is not allowed it stays as it is.
 */
export function enlargePipe(fd: number, sizeBytes: number): void {
  rawFcntl(fd, F_SETPIPE_SZ, sizeBytes);
}

/**
 * Makes a range read as zeros and gives its space back: of a file, or of a device that can do it
 * without writing zeros (else `EOPNOTSUPP`).
 *
 * @see fallocate(2) FALLOC_FL_PUNCH_HOLE
 */
export async function punchHole(
  fd: number,
  offsetBytes: number,
  lengthBytes: number,
): Promise<void> {
  await fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offsetBytes, lengthBytes);
}

/**
 * Gives a file this size, and the space for it: what is written then needs no more.
 *
 * @see fallocate(2)
 */
export async function reserveSpace(fd: number, sizeBytes: number): Promise<void> {
  await fallocate(fd, 0, 0, sizeBytes);
}

function fallocate(
  ...[fd, mode, offsetBytes, lengthBytes]: [number, number, number, number]
): Promise<void> {
  return new Promise((resolve, reject) => {
    rawFallocate.async(
      ...([fd, mode, offsetBytes, lengthBytes] as const),
      (error: Error | null, result: number) => {
        if (error !== null) reject(error);
        // koffi keeps the errno of an asynchronous call for its callback.
        else if (result !== 0) reject(new LibcError('fallocate', koffi.errno()));
        else resolve();
      },
    );
  });
}

/**
 * Locks a file against others who do; the lock ends with the descriptor.
 *
 * @returns false when somebody else has it
 * @see flock(2)
 */
export function lockFile(fd: number): boolean {
  if (rawFlock(fd, LOCK_EX_NB) === 0) return true;
  const errno = koffi.errno();
  if (errno === constants.errno.EWOULDBLOCK) return false;
  throw new LibcError('flock', errno);
}

/** @returns bytes of a pipe or socket that its reader has not taken yet; 0 where nobody can tell */
export function bytesInFlight(fd: number, kind: 'pipe' | 'socket'): number {
  const count = Buffer.alloc(4);
  const request = kind === 'pipe' ? FIONREAD : SIOCOUTQ;
  return rawIoctl(fd, request, count) === 0 ? count.readInt32LE() : 0;
}

/**
 * Waits on another thread until `fd` takes bytes, its reader goes away, or the time is over.
 *
 * @param timeoutMs keep it short: nothing interrupts the wait
 */
export function waitWritable(
  fd: number,
  timeoutMs: number,
): Promise<'writable' | 'closed' | 'timeout'> {
  const request = Buffer.alloc(8);
  request.writeInt32LE(fd, 0);
  request.writeInt16LE(POLLOUT, 4);
  return new Promise((resolve, reject) => {
    rawPoll.async(request, 1, timeoutMs, (error: Error | null, count: number) => {
      const events = request.readInt16LE(6);
      if (error !== null) reject(error);
      else if (count <= 0) resolve('timeout');
      else resolve((events & (POLLERR | POLLHUP)) === 0 ? 'writable' : 'closed');
    });
  });
}

/** @returns the memory address of a buffer's first byte */
export function addressOf(buffer: Buffer): bigint {
  return koffi.address(buffer);
}

/** @see linux/btrfs.h BTRFS_IOC_FS_INFO: max_id u64, num_devices u64, … 1024 bytes in all */
const BTRFS_IOC_FS_INFO = 0x8400941f;

/** @returns how many devices the btrfs of `fd` spans */
export function btrfsDeviceCount(fd: number): number {
  const info = Buffer.alloc(1024);
  if (rawIoctl(fd, BTRFS_IOC_FS_INFO, info) !== 0) {
    throw new LibcError('BTRFS_IOC_FS_INFO', koffi.errno());
  }
  return Number(info.readBigUInt64LE(8));
}
