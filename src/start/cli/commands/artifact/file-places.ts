import { MIB } from '../../../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../../../bytes/index.ts';
import { Holes } from './file-holes.ts';

/** What is read at once, four chunks: messages between threads cost less than what is in them. */
export const WINDOW_BYTES: number = MIB;

/** Bytes of a file, or a hole. */
export interface Place {
  readonly isHole: boolean;
  readonly offsetBytes: number;
  /** Of data, at most {@link WINDOW_BYTES}. */
  readonly lengthBytes: number;
}

/**
 * Gives the places of a file in order, each at a multiple of `MAX_CHUNK_BYTES`.
 *
 * @param fd is open for reading
 */
export function* placesOf(fd: number, sizeBytes: number): Generator<Place, undefined, undefined> {
  const holes = new Holes(fd);
  for (let at = 0; at < sizeBytes; ) {
    const holeBytes = holes.untilData(at);
    const isToEnd = at + holeBytes === sizeBytes;
    const wholeBytes = isToEnd ? holeBytes : holeBytes - (holeBytes % MAX_CHUNK_BYTES);
    const isHole = wholeBytes > 0;
    // At least one: what is no regular file has no end that is known, and refuses to be read.
    const chunks = Math.max(1, Math.ceil(holes.untilHole(at) / MAX_CHUNK_BYTES));
    const lengthBytes = isHole
      ? wholeBytes
      : Math.min(WINDOW_BYTES, chunks * MAX_CHUNK_BYTES, sizeBytes - at);
    yield { isHole, offsetBytes: at, lengthBytes };
    at += lengthBytes;
  }
}
