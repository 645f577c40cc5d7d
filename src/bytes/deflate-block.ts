/**
 * Writes deflate blocks (RFC 1951) by hand, where the bits must be ours: zero segments that are the
 * same with every engine, and the probe behind a segment.
 *
 * @see docs/formats/segments.md
 */
const LITERAL_CODES = 286;
const DISTANCE_CODES = 2;

/** The order in which a block's header has the lengths of the code length code. */
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Ends a block. */
export const END_OF_BLOCK = 256;

/** The shortest length symbol: three bytes. */
export const FIRST_LENGTH_SYMBOL = 257;

/** One of the prefix codes of a block. */
interface PrefixCode {
  readonly lengths: Uint8Array;
  /** Bits of each code with the first one lowest, as they stand in the stream. */
  readonly bits: Uint32Array;
}

/** Collects bits, lowest first. */
class BitWriter {
  readonly #bytes: number[] = [];
  #pending = 0;
  #pendingBits = 0;

  write(value: number, bits: number): void {
    this.#pending |= value << this.#pendingBits;
    this.#pendingBits += bits;
    while (this.#pendingBits >= 8) {
      this.#bytes.push(this.#pending & 0xff);
      this.#pending >>>= 8;
      this.#pendingBits -= 8;
    }
  }

  /** Fills the last byte with zero bits. */
  align(): void {
    if (this.#pendingBits > 0) this.write(0, 8 - this.#pendingBits);
  }

  toBuffer(): Buffer {
    this.align();
    return Buffer.from(this.#bytes);
  }
}

/** Gives each symbol its canonical code (RFC 1951 section 3.2.2). */
function prefixCode(lengths: Uint8Array): PrefixCode {
  const bits = new Uint32Array(lengths.length);
  let code = 0;
  for (let length = 1; length <= 15; length++) {
    code *= 2;
    for (const [symbol, own] of lengths.entries()) {
      if (own === length) bits[symbol] = reversed(code++, length);
    }
  }
  return { lengths, bits };
}

/** Codes are packed from their highest bit on, everything else from its lowest. */
function reversed(code: number, length: number): number {
  let bits = 0;
  for (let i = 0; i < length; i++) bits |= ((code >> i) & 1) << (length - 1 - i);
  return bits;
}

const CODE_LENGTH_CODE = prefixCode(
  // Zero is by far the commonest length. Nothing here has codes of more than four bits.
  Uint8Array.from({ length: 19 }, (_, length) => (length === 0 ? 1 : length <= 4 ? 3 : 0)),
);

/** A block with a dynamic code and the distances 1 and 2 (one bit each). */
export class DynamicBlockWriter {
  readonly #writer = new BitWriter();
  readonly #literals: PrefixCode;

  /** @param codeLengths bits of each literal or length symbol, 1 to 4; they must be a whole code */
  constructor(
    codeLengths: ReadonlyMap<number, number>,
    { isFinal }: { readonly isFinal: boolean },
  ) {
    const lengths = new Uint8Array(LITERAL_CODES);
    for (const [symbol, length] of codeLengths) lengths[symbol] = length;
    this.#literals = prefixCode(lengths);
    const writer = this.#writer;
    writer.write(isFinal ? 1 : 0, 1);
    writer.write(0b10, 2);
    writer.write(LITERAL_CODES - 257, 5);
    writer.write(DISTANCE_CODES - 1, 5);
    writer.write(CODE_LENGTH_ORDER.length - 4, 4);
    for (const symbol of CODE_LENGTH_ORDER) writer.write(CODE_LENGTH_CODE.lengths[symbol] ?? 0, 3);
    const distances = new Uint8Array(DISTANCE_CODES).fill(1);
    for (const length of [...lengths, ...distances]) write(writer, CODE_LENGTH_CODE, length);
  }

  /** Writes a literal, a length symbol without extra bits, or {@link END_OF_BLOCK}. */
  symbol(symbol: number): void {
    write(this.#writer, this.#literals, symbol);
  }

  /** Repeats the last byte: the length symbol's extra bits, then distance 1. */
  repeat(symbol: number, extraValue: number, extraBits: number): void {
    write(this.#writer, this.#literals, symbol);
    this.#writer.write(extraValue, extraBits);
    this.#writer.write(0, 1);
  }

  /** Ends a final block, padded to a byte. */
  finish(): Buffer {
    this.symbol(END_OF_BLOCK);
    return this.#writer.toBuffer();
  }

  /** Ends the block and adds an empty stored block, so that the next one begins on a byte. */
  flush(): Buffer {
    this.symbol(END_OF_BLOCK);
    this.#writer.write(0, 3);
    return Buffer.concat([this.#writer.toBuffer(), Buffer.from([0, 0, 0xff, 0xff])]);
  }
}

function write(writer: BitWriter, code: PrefixCode, symbol: number): void {
  const length = code.lengths[symbol] ?? 0;
  if (length === 0) throw new RangeError(`symbol ${symbol} has no code in this block`);
  writer.write(code.bits[symbol] ?? 0, length);
}

/**
 * Finds how deflate writes a match of this length (RFC 1951 section 3.2.5).
 *
 * @param length 3 to 258
 */
export function lengthSymbol(length: number): {
  readonly symbol: number;
  readonly extraValue: number;
  readonly extraBits: number;
} {
  if (length === 258) return { symbol: 285, extraValue: 0, extraBits: 0 };
  // Eight lengths have no extra bits; from there on, four symbols for each number of extra bits.
  let first = 3;
  let symbol = FIRST_LENGTH_SYMBOL;
  for (;;) {
    const extraBits = symbol < 265 ? 0 : (symbol - 261) >> 2;
    if (length < first + 2 ** extraBits) return { symbol, extraValue: length - first, extraBits };
    first += 2 ** extraBits;
    symbol += 1;
  }
}
