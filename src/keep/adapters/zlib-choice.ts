/** What a chunk looks like to zlib. */
export type ZlibLook =
  /** All bytes are equally often there: it is compressed already, or nearly so. */
  | 'flat'
  /** As programs are: matches are found nearby or not at all. */
  | 'mixed'
  /** As text and tables are. */
  | 'plain';

/** What {@link ZLIB_OPTIONS} settles. */
interface DeflateOptions {
  readonly level: number;
  readonly memLevel: number;
  readonly windowBits: number;
}

/** Pieces of a chunk that are looked at, and the length of each. */
const RUNS = 32;
const RUN_BYTES = 128;
const LOOKED_BYTES = RUNS * RUN_BYTES;

/** How many times likelier two bytes of a chunk are the same than two random ones. */
const MAX_FLAT = 1.2;
const MAX_MIXED = 8;

/** A flat chunk is stored when as much of its middle does not shrink below the second. */
const TRIAL_BYTES = 8192;
const MIN_STORED_BYTES = 0.9 * TRIAL_BYTES;

/** Level 2 takes the time of level 1 for 1 % less; the largest tables save it a tenth. */
export const LEVEL = 2;
const FAR: DeflateOptions = { level: LEVEL, memLevel: 9, windowBits: 15 };
const NEAR: DeflateOptions = { ...FAR, windowBits: 13 };

/** What zlib is asked for when it codes a chunk that looks so. */
export const ZLIB_OPTIONS: Readonly<Record<ZlibLook, DeflateOptions>> = {
  flat: NEAR,
  mixed: NEAR,
  plain: FAR,
};

const counts = new Uint32Array(256);

/**
 * Looks at a chunk, so that zlib's time goes where it finds something. Equal chunks look the same:
 * they have one segment.
 */
export function zlibLook(plain: Uint8Array): ZlibLook {
  if (plain.byteLength < LOOKED_BYTES) return 'plain';
  const likeness = likenessOf(plain);
  if (likeness < MAX_FLAT) return 'flat';
  return likeness < MAX_MIXED ? 'mixed' : 'plain';
}

/** @returns the part of a flat chunk by which {@link isWorthZlib} is decided, if it has one */
export function trialOf<T extends Uint8Array>(plain: T): T | undefined {
  if (plain.byteLength < 2 * TRIAL_BYTES) return undefined;
  const start = Math.floor((plain.byteLength - TRIAL_BYTES) / 2);
  return plain.subarray(start, start + TRIAL_BYTES) as T;
}

/** @param codedBytes what the part of {@link trialOf} is coded in */
export function isWorthZlib(codedBytes: number): boolean {
  return codedBytes < MIN_STORED_BYTES;
}

function likenessOf(plain: Uint8Array): number {
  counts.fill(0);
  const stepBytes = Math.floor(plain.byteLength / RUNS);
  for (let run = 0; run < RUNS; run++) {
    const end = run * stepBytes + RUN_BYTES;
    for (let i = run * stepBytes; i < end; i++) {
      const byte = plain[i] ?? 0;
      counts[byte] = (counts[byte] ?? 0) + 1;
    }
  }
  let pairs = 0;
  for (const count of counts) pairs += count * (count - 1);
  return (pairs * 256) / (LOOKED_BYTES * (LOOKED_BYTES - 1));
}
