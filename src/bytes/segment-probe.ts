import { randomInt } from 'node:crypto';
import { DynamicBlockWriter, END_OF_BLOCK } from './deflate-block.ts';

/** With the end of the block these are 16 codes of 4 bits: a whole code. */
const LITERALS = 15;

/**
 * What is put behind a segment to see that it ends between two blocks, on a byte.
 *
 * Decode `segment + coded` as one whole deflate stream. The segment is right if every byte was used
 * and what comes out is its plain bytes followed by `plain`.
 *
 * @see docs/formats/segments.md "Decoding strictly"
 */
export interface SegmentProbe {
  readonly coded: Buffer;
  readonly plain: Buffer;
}

/**
 * Makes a probe with literals of its own. One per process is enough; it must not be told to
 * whoever makes segments.
 */
export function makeSegmentProbe(): SegmentProbe {
  const literals = new Set<number>();
  while (literals.size < LITERALS) literals.add(randomInt(256));
  const codeLengths = new Map([...literals, END_OF_BLOCK].map((symbol) => [symbol, 4]));
  const block = new DynamicBlockWriter(codeLengths, { isFinal: true });
  for (const literal of literals) block.symbol(literal);
  return { coded: block.finish(), plain: Buffer.from([...literals]) };
}
