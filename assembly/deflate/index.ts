/**
 * Codes a chunk as a segment: deflate that ends on a byte, without a final block.
 *
 * One pass finds matches with a table of the two latest places of each hash; each 64 KiB or so are a
 * block with codes of their own.
 *
 * @see docs/formats/segments.md
 */
import { alignBits, bitTarget, putBits, resumeBits } from './bit-writer.ts';
import { planBlock, writeBlock } from './block.ts';
import { findMatches, startMatches } from './matches.ts';
import { BLOCK_BYTES, CODED, PLAIN } from './rooms.ts';

/** Where the caller puts the chunk, and where it finds the segment. */
export const INPUT: usize = PLAIN;
export const OUTPUT: usize = CODED;

/** What does not shrink to this is stored: inflating it would take more time than it saves space. */
const MAX_PERCENT: i32 = 97;

/** An empty stored block ends the segment: three zero bits up to the byte, its length twice. */
const STORED_BLOCK_BITS: u32 = 3;
const EMPTY_LENGTHS: u32 = 0xffff0000;
const END_BYTES: i32 = 6;

/** @returns bytes up to the end of the segment, if it ended after so many more bits */
function bytesAfter(bits: i32): i32 {
  return <i32>(bitTarget - CODED) + ((bits + 7) >> 3) + END_BYTES;
}

function writeEnd(): void {
  putBits(0, STORED_BLOCK_BITS);
  alignBits();
  store<u32>(bitTarget, EMPTY_LENGTHS);
}

/**
 * Codes the chunk at {@link INPUT} to {@link OUTPUT}. Nothing of an earlier call has a say in it.
 *
 * @param plainBytes 1 to 262144
 * @returns how many bytes the segment has; 0 if the chunk is better stored
 */
export function encode(plainBytes: i32): i32 {
  startMatches(plainBytes);
  resumeBits(0, 0, CODED);
  const blocks = max(1, (plainBytes + BLOCK_BYTES / 2) / BLOCK_BYTES);
  const roomBytes = (plainBytes * MAX_PERCENT) / 100;
  let from: i32 = 0;
  for (let block: i32 = 1; block <= blocks; block++) {
    const to = block === blocks ? plainBytes : (plainBytes / blocks) * block;
    findMatches(from, to);
    // Its length is known before it is written, so nothing is ever written behind the room.
    if (bytesAfter(planBlock()) > roomBytes) return 0;
    writeBlock(from);
    from = to;
  }
  writeEnd();
  return <i32>(bitTarget - CODED) + <i32>sizeof<u32>();
}
