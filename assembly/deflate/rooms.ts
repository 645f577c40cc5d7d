/** Where things lie in the coder's memory, which has a fixed size and no allocator. */

/** A chunk is never larger (docs/formats/chunk-rule.md). */
export const MAX_PLAIN_BYTES: i32 = 256 * 1024;

/** About so many bytes of a chunk are a block: half of it takes 9 % more time for 0.3 % fewer bytes. */
export const BLOCK_BYTES: i32 = 64 * 1024;

/** A block is shorter than this: what is left of a chunk is spread over its blocks. */
export const MAX_BLOCK_BYTES: i32 = (3 * BLOCK_BYTES) / 2;

/** What a load or store of eight bytes may reach behind the last byte. */
const SPARE_BYTES: i32 = 8;

/** The chunk that is coded; the caller puts it here. */
export const PLAIN: usize = memory.data(MAX_PLAIN_BYTES + SPARE_BYTES, 16);

/** The segment, if it is shorter than the chunk. */
export const CODED: usize = memory.data(MAX_PLAIN_BYTES + SPARE_BYTES, 16);

/** Bytes of a number that counts, or of a code and its length. */
export const NUMBER_BYTES: i32 = 4;
