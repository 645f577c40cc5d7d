import { constants } from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const mmap = libc.func(
  'uint64_t mmap(uint64_t address, uint64_t length, int protection, int flags, int fd, int64_t offset)',
);
const munmap = libc.func('int munmap(uint64_t address, uint64_t length)');

/** @see asm-generic/mman-common.h, mman(2) */
const PROT_READ_WRITE = 1 | 2;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_FIXED_NOREPLACE = 0x10_0000;

/** The polynomial of CRC-32C, reflected. */
const CRC32C = 0x82f63b78;
/** ISA-L hashes the number of the 64 KiB in which the stream begins. */
const PLACE_BYTES = 2n ** 16n;
/** Low addresses belong to programs and their heaps; higher ones than 47 bits to nobody. */
const FIRST_PLACE = 2 ** 20;
const LAST_PLACE = 2 ** 31 - 16;
/** More bits than any of ISA-L's hash tables has. */
const HASH_BITS = 16;

/** Memory that native code works in. */
export interface StreamMemory {
  readonly bytes: Buffer;
  readonly address: bigint;
}

/**
 * Takes memory for one `struct isal_zstream`, at a place where its address has no say in what comes
 * out; it is kept as long as the process lives.
 *
 * ISA-L 2.30 hashes bits 16 to 47 of the stream's address instead of the third to sixth byte of the
 * input (`isal_deflate_icf_body_hash_hist`: at its first byte a register still holds the pointer), so
 * that whether it finds a repetition of those bytes depends on where the stream lies: one chunk of
 * some 100,000 came out in another form. Here all streams lie where that hash is 0.
 *
 * @returns undefined where the kernel gives no such place
 * @see docs/adr/0015-streams-of-isa-l-lie-at-chosen-addresses.md
 */
export function takeStreamMemory(sizeBytes: number): StreamMemory | undefined {
  for (const place of places()) {
    const address = BigInt(place) * PLACE_BYTES;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    const got = BigInt(mmap(address, sizeBytes, PROT_READ_WRITE, flags, -1, 0));
    if (got === address) return { address, bytes: Buffer.from(koffi.view(address, sizeBytes)) };
    // Kernels before 4.17 take the address for a wish.
    if (BigInt.asIntN(64, got) > 0n) munmap(got, sizeBytes);
    else if (koffi.errno() === constants.errno.EINVAL) return undefined;
  }
  return undefined;
}

/** @returns numbers of 64 KiB places whose CRC-32C ends in {@link HASH_BITS} zeros */
function* places(): Generator<number, void, undefined> {
  for (let high = 1; high < 2 ** (32 - HASH_BITS); high++) {
    const place = beforeCrc32c(high * 2 ** HASH_BITS);
    if (place >= FIRST_PLACE && place < LAST_PLACE) yield place;
  }
}

/** @returns the 32 bits of which the CRC-32C from 0 on, without inversion, is `crc` */
function beforeCrc32c(crc: number): number {
  let bits = crc | 0;
  // The highest bit is set where the polynomial was applied: it has that bit.
  for (let i = 0; i < 32; i++) bits = bits < 0 ? ((bits ^ CRC32C) << 1) | 1 : bits << 1;
  return bits >>> 0;
}
