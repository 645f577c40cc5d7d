import { constants, crc32, deflateRaw, inflateRaw } from 'node:zlib';
import { storedSegment, storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import {
  checkedPlain,
  checkSegmentLengths,
  type ProbedOutput,
  segmentMalformed,
  segmentProbe,
} from '../chunks/strict-decode.ts';
import { ENGINE_CALLS, LendingPool } from './lending-pool.ts';
import { isWorthZlib, trialOf, ZLIB_OPTIONS, type ZlibLook, zlibLook } from './zlib-choice.ts';
import { ZLIB_NAME } from './zlib-segment-engine.ts';

/** What is shorter than half of it comes out of Node's pool, which cannot be given back. */
const OWN_BYTES = Buffer.poolSize / 2;

/** Each call of zlib takes 300 KB from the moment it is made, so few are made at once. */
const turns = new LendingPool(() => undefined, ENGINE_CALLS);

/**
 * Codes segments with Node's zlib, on the libuv pool. It is always there.
 *
 * @see docs/formats/segments.md
 */
export const zlibSegmentCodec: SegmentCodec = {
  name: ZLIB_NAME,

  async encode(plain) {
    const look = zlibLook(plain);
    const part = look === 'flat' ? trialOf(plain) : undefined;
    if (part !== undefined) {
      const { byteLength } = await turns.use(() => deflate(part, look));
      if (!isWorthZlib(byteLength)) return storedSegment(plain);
    }
    const coded = await turns.use(() => deflate(plain, look));
    if (coded.byteLength >= storedSegmentBytes(plain.byteLength)) return storedSegment(plain);
    // What zlib gives is a view into a buffer of the plain length, which it would keep alive.
    return Buffer.from(coded);
  },

  async decode(coded, plainBytes) {
    checkSegmentLengths(coded, plainBytes);
    const probed = await turns.use(() => inflateWithProbe(coded, plainBytes));
    return checkedPlain(coded, plainBytes, probed);
  },

  crc32: (bytes) => crc32(bytes),
};

function deflate(plain: Uint8Array, look: ZlibLook): Promise<Buffer> {
  const options = {
    ...ZLIB_OPTIONS[look],
    finishFlush: constants.Z_SYNC_FLUSH,
    // One output chunk for all: each further one is another trip to the pool.
    chunkSize: Math.max(plain.byteLength + 2048, OWN_BYTES),
  };
  return new Promise((resolve, reject) => {
    deflateRaw(plain, options, (error, coded) => {
      if (error === null) resolve(coded);
      else reject(error);
    });
  });
}

/** What `inflateRaw` calls back with under `info`; its types know only the buffer. */
interface InflateInfo {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

function inflateWithProbe(coded: Uint8Array, plainBytes: number): Promise<ProbedOutput> {
  const whole = Buffer.concat([coded, segmentProbe.coded]);
  const outputBytes = plainBytes + segmentProbe.plain.byteLength;
  // A bomb stops at the first byte too many. The chunk has room for all, so one trip does.
  const chunkSize = Math.max(outputBytes + 64, OWN_BYTES);
  const options = { info: true, chunkSize, maxOutputLength: outputBytes };
  return new Promise((resolve, reject) => {
    inflateRaw(whole, options, (error, result) => {
      if (error !== null) {
        reject(segmentMalformed(coded, plainBytes, 'it is no deflate of that length', error));
        return;
      }
      const { buffer, engine } = result as unknown as InflateInfo;
      resolve({ output: buffer, usedBytes: engine.bytesWritten });
    });
  });
}
