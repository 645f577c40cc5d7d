import {
  constants,
  crc32,
  createDeflateRaw,
  createInflateRaw,
  deflateRawSync,
  inflateRawSync,
} from 'node:zlib';
import { copyBytes } from '../../base/index.ts';
import {
  MAX_CHUNK_BYTES,
  MAX_CODED_BYTES,
  storedSegmentBytes,
  storeInto,
} from '../../bytes/index.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import {
  checkedPlain,
  checkSegmentLengths,
  segmentMalformed,
  segmentProbe,
} from '../chunks/strict-decode.ts';
import {
  isWorthZlib,
  LEVEL,
  trialOf,
  ZLIB_OPTIONS,
  type ZlibLook,
  zlibLook,
} from './zlib-choice.ts';
import { type ZlibProgress, ZlibState } from './zlib-state.ts';

/** What Node's zlib is called, with its level. */
export const ZLIB_NAME: string = `zlib-${LEVEL}`;

/** Room behind the plain bytes and the probe: zlib must stop by itself, not for want of it. */
const SPARE_BYTES = 64;

/** Zlib on this thread. */
interface RawZlib {
  /** @returns the coded length, `target.byteLength` or more if it has no room for all */
  deflate(plain: Buffer, look: ZlibLook, target: Buffer): number;
  /**
   * @param isWhole whether the stream must end
   * @throws Error for what is no deflate
   */
  inflate(coded: Buffer, target: Buffer, isWhole: boolean): ZlibProgress;
}

/** States that are made once and used for all calls. */
function statesOfZlib(): RawZlib | undefined {
  const far = ZlibState.over(createDeflateRaw(ZLIB_OPTIONS.plain));
  const near = ZlibState.over(createDeflateRaw(ZLIB_OPTIONS.mixed));
  const inflater = ZlibState.over(createInflateRaw());
  if (far === undefined || near === undefined || inflater === undefined) return undefined;
  return {
    deflate(plain, look, target) {
      const state = look === 'plain' ? far : near;
      return state.deflate(plain, target, ZLIB_OPTIONS[look].windowBits).writtenBytes;
    },
    inflate: (coded, target, isWhole) => inflater.run(coded, target, isWhole ? 'finish' : 'sync'),
  };
}

/** The functions that Node documents, for one whose streams have other insides. */
export const callsOfZlib: RawZlib = {
  deflate(plain, look, target) {
    const options = { ...ZLIB_OPTIONS[look], finishFlush: constants.Z_SYNC_FLUSH };
    const coded = deflateRawSync(plain, { ...options, chunkSize: plain.byteLength + 2048 });
    target.set(coded.subarray(0, target.byteLength));
    return coded.byteLength;
  },

  inflate(coded, target, isWhole) {
    const finishFlush = isWhole ? constants.Z_FINISH : constants.Z_SYNC_FLUSH;
    const chunkSize = Math.max(target.byteLength, constants.Z_MIN_CHUNK);
    const limits = { chunkSize, maxOutputLength: target.byteLength };
    const result = inflateRawSync(coded, { ...limits, finishFlush, info: true });
    // Its types know only the buffer.
    const { buffer, engine } = result as unknown as {
      readonly buffer: Buffer;
      readonly engine: { readonly bytesWritten: number };
    };
    target.set(buffer);
    return { usedBytes: engine.bytesWritten, writtenBytes: buffer.byteLength };
  },
};

/**
 * Codes segments with Node's zlib on the thread that calls.
 *
 * @param zlib how zlib is reached
 * @see docs/formats/segments.md
 */
export function openZlibSegmentEngine(
  zlib: RawZlib = statesOfZlib() ?? callsOfZlib,
): SegmentEngine {
  const input = Buffer.allocUnsafeSlow(MAX_CODED_BYTES + segmentProbe.coded.byteLength);
  const output = Buffer.allocUnsafeSlow(
    MAX_CHUNK_BYTES + segmentProbe.plain.byteLength + SPARE_BYTES,
  );
  const shrinks = (plain: Buffer): boolean => {
    const part = trialOf(plain);
    return part === undefined || isWorthZlib(zlib.deflate(part, 'flat', output));
  };
  return {
    name: ZLIB_NAME,

    encodeInto(plain, target) {
      const look = zlibLook(plain);
      if (look === 'flat' && !shrinks(plain)) return storeInto(plain, target);
      const room = target.subarray(0, storedSegmentBytes(plain.byteLength));
      const codedBytes = zlib.deflate(plain, look, room);
      // Without room left, it is not all there.
      return codedBytes < room.byteLength ? codedBytes : storeInto(plain, target);
    },

    decode(coded, plainBytes) {
      checkSegmentLengths(coded, plainBytes);
      copyBytes(input, 0, coded);
      input.set(segmentProbe.coded, coded.byteLength);
      const whole = input.subarray(0, coded.byteLength + segmentProbe.coded.byteLength);
      const roomBytes = plainBytes + segmentProbe.plain.byteLength + SPARE_BYTES;
      let done: ZlibProgress;
      try {
        done = zlib.inflate(whole, output.subarray(0, roomBytes), true);
      } catch (cause) {
        throw segmentMalformed(coded, plainBytes, 'it is no deflate of that length', cause);
      }
      const { usedBytes, writtenBytes } = done;
      return checkedPlain(coded, plainBytes, {
        output: output.subarray(0, writtenBytes),
        usedBytes,
      });
    },

    decodeInto(coded, target) {
      checkSegmentLengths(coded, target.byteLength);
      const bytes = Buffer.from(coded.buffer, coded.byteOffset, coded.byteLength);
      let doneBytes = 0;
      try {
        doneBytes = zlib.inflate(bytes, target, false).writtenBytes;
      } catch (cause) {
        throw segmentMalformed(coded, target.byteLength, 'it is no deflate of that length', cause);
      }
      if (doneBytes === target.byteLength) return;
      throw segmentMalformed(coded, target.byteLength, `${doneBytes} bytes came out`);
    },

    crc32: (bytes) => crc32(bytes),
  };
}
