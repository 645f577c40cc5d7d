import { malformed } from '../metadata-reader.ts';

const LENGTH_BYTES = 4;
/** First byte of a stream: above it, literals come before any instruction. */
const FIRST_LITERALS = 17;
/** A distance that an instruction of the far kind cannot have: it ends the stream. */
const FAR_BYTES = 16_384;
/** Behind a run of literals, the shortest instruction reaches further than elsewhere. */
const BEHIND_RUN = 4;
const NEAR_BYTES = 2048;

/**
 * Decodes an extent that btrfs compressed with LZO: a length of all, then segments of one sector
 * each, with a length before each that is never split by the end of a sector.
 *
 * @param plainBytes of the extent; a last segment may have less than is missing
 * @returns at most `plainBytes` bytes
 * @throws IngotError `filesystem-malformed`
 * @see docs/formats/lzo.md
 */
export function decodeBtrfsLzo(
  stored: Buffer,
  { plainBytes, sectorBytes }: { readonly plainBytes: number; readonly sectorBytes: number },
): Buffer {
  if (stored.length < LENGTH_BYTES) throw malformed(`an LZO extent has ${stored.length} bytes`);
  const endBytes = stored.readUInt32LE(0);
  if (endBytes > stored.length || endBytes < LENGTH_BYTES) {
    throw malformed(`an LZO extent has ${stored.length} of ${endBytes} bytes`);
  }
  const plain = Buffer.alloc(plainBytes);
  let filled = 0;
  for (let at = LENGTH_BYTES; at < endBytes && filled < plainBytes; ) {
    const left = sectorBytes - (at % sectorBytes);
    if (left < LENGTH_BYTES) at += left;
    if (at + LENGTH_BYTES > endBytes) break;
    const start = at + LENGTH_BYTES;
    const end = start + stored.readUInt32LE(at);
    if (end > endBytes || end === start) throw malformed('an LZO segment ends outside its extent');
    const room = plain.subarray(filled, Math.min(filled + sectorBytes, plainBytes));
    filled += decodeLzo1x(stored.subarray(start, end), room);
    at = end;
  }
  return plain.subarray(0, filled);
}

/** Where a decoder stands in what it reads. */
class LzoInput {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  byte(): number {
    const value = this.bytes[this.at];
    if (value === undefined) throw malformed('an LZO stream has no end');
    this.at += 1;
    return value;
  }

  pair(): number {
    return this.byte() | (this.byte() << 8);
  }

  /** @returns a length whose bits are all 0 as long as its bytes are 0, 255 for each */
  long(bits: number, mask: number): number {
    if ((bits & mask) !== 0) return bits & mask;
    let length = mask;
    for (;;) {
      const byte = this.byte();
      if (byte !== 0) return length + byte;
      length += 255;
    }
  }
}

/** What an instruction copies from what is decoded already, and literals behind it. */
interface LzoCopy {
  readonly lengthBytes: number;
  readonly distanceBytes: number;
  readonly literals: number;
}

/**
 * Decodes one LZO1X stream.
 *
 * @param target memory that it may fill; more is refused
 * @returns bytes that were filled
 * @throws IngotError `filesystem-malformed` also for bytes behind the end
 */
export function decodeLzo1x(coded: Buffer, target: Buffer): number {
  const input = new LzoInput(coded);
  let filled = 0;
  const literals = (count: number): void => {
    if (count > coded.length - input.at || count > target.length - filled) {
      throw malformed(`an LZO stream has ${count} literals more than there is room`);
    }
    filled += coded.copy(target, filled, input.at, input.at + count);
    input.at += count;
  };
  // Literals that the last instruction copied, of which the meaning of the next depends.
  let state = 0;
  if ((coded[0] ?? 0) > FIRST_LITERALS) {
    const count = input.byte() - FIRST_LITERALS;
    literals(count);
    state = Math.min(count, BEHIND_RUN);
  }
  for (;;) {
    const instruction = input.byte();
    if (instruction < 16 && state === 0) {
      literals(3 + input.long(instruction, 15));
      state = BEHIND_RUN;
      continue;
    }
    const copy = readCopy(input, instruction, state);
    if (copy === undefined) break;
    const { lengthBytes, distanceBytes } = copy;
    if (distanceBytes > filled || lengthBytes > target.length - filled) {
      throw malformed(`an LZO stream copies ${lengthBytes} bytes from ${distanceBytes} before`);
    }
    // Byte by byte: a copy may reach into what it makes.
    for (const end = filled + lengthBytes; filled < end; filled++) {
      target[filled] = target[filled - distanceBytes] ?? 0;
    }
    literals(copy.literals);
    state = copy.literals;
  }
  if (input.at !== coded.length) throw malformed('an LZO stream ends before its segment');
  return filled;
}

/** @returns undefined at the end of the stream */
function readCopy(input: LzoInput, instruction: number, state: number): LzoCopy | undefined {
  if (instruction >= 64) {
    const lengthBytes =
      instruction >= 128 ? 5 + ((instruction >> 5) & 3) : 3 + ((instruction >> 5) & 1);
    const distanceBytes = (input.byte() << 3) + ((instruction >> 2) & 7) + 1;
    return { lengthBytes, distanceBytes, literals: instruction & 3 };
  }
  if (instruction >= 32) {
    const lengthBytes = 2 + input.long(instruction, 31);
    const pair = input.pair();
    return { lengthBytes, distanceBytes: (pair >> 2) + 1, literals: pair & 3 };
  }
  if (instruction >= 16) {
    const lengthBytes = 2 + input.long(instruction, 7);
    const pair = input.pair();
    const distanceBytes = FAR_BYTES + ((instruction & 8) << 11) + (pair >> 2);
    return distanceBytes === FAR_BYTES
      ? undefined
      : { lengthBytes, distanceBytes, literals: pair & 3 };
  }
  const isBehindRun = state === BEHIND_RUN;
  const near = (input.byte() << 2) + ((instruction >> 2) & 3) + 1;
  return {
    lengthBytes: isBehindRun ? 3 : 2,
    distanceBytes: isBehindRun ? near + NEAR_BYTES : near,
    literals: instruction & 3,
  };
}
