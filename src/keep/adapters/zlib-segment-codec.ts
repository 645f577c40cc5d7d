import {
  constants,
  crc32,
  deflateRaw,
  deflateRawSync,
  inflateRaw,
  inflateRawSync,
} from 'node:zlib';
import { releaseMemory, storedSegment, storedSegmentBytes, storeInto } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import {
  checkedPlain,
  checkSegmentLengths,
  type ProbedOutput,
  segmentMalformed,
  segmentProbe,
} from '../chunks/strict-decode.ts';
import { ENGINE_CALLS, LendingPool } from './lending-pool.ts';

/** Level 1 takes 0.45 times the CPU time of level 6, for 7 % more bytes. */
const LEVEL = 1;

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
  name: `zlib-${LEVEL}`,

  async encode(plain) {
    const coded = await turns.use(() => deflate(plain));
    if (coded.byteLength > storedSegmentBytes(plain.byteLength)) return storedSegment(plain);
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

/** What a thread's last decode gave, until the next one. */
let lastDecoded: Buffer | undefined;

/** The same on the thread that calls. */
export const zlibSegmentEngine: SegmentEngine = {
  name: zlibSegmentCodec.name,

  encodeInto(plain, target) {
    const deflated = deflateRawSync(plain, deflateOptions(plain));
    const codedBytes = deflated.byteLength;
    const isLong = codedBytes > storedSegmentBytes(plain.byteLength);
    if (!isLong) target.set(deflated);
    releaseMemory(deflated);
    return isLong ? storeInto(plain, target) : codedBytes;
  },

  decode(coded, plainBytes) {
    checkSegmentLengths(coded, plainBytes);
    if (lastDecoded !== undefined) releaseMemory(lastDecoded);
    lastDecoded = undefined;
    let result: InflateInfo;
    try {
      const whole = Buffer.concat([coded, segmentProbe.coded]);
      result = inflateRawSync(whole, inflateOptions(plainBytes)) as unknown as InflateInfo;
      releaseMemory(whole);
    } catch (cause) {
      throw segmentMalformed(coded, plainBytes, 'it is no deflate of that length', cause);
    }
    const { buffer, engine } = result;
    lastDecoded = buffer;
    return checkedPlain(coded, plainBytes, { output: buffer, usedBytes: engine.bytesWritten });
  },

  decodeInto(coded, target) {
    target.set(zlibSegmentEngine.decode(coded, target.byteLength));
  },

  crc32: (bytes) => crc32(bytes),
};

function deflateOptions(plain: Uint8Array) {
  return {
    level: LEVEL,
    // Its largest tables: a tenth faster for the same bytes.
    memLevel: 9,
    finishFlush: constants.Z_SYNC_FLUSH,
    // One output chunk for all: each further one is another trip to the pool.
    chunkSize: Math.max(plain.byteLength + 2048, OWN_BYTES),
  };
}

function inflateOptions(plainBytes: number) {
  const outputBytes = plainBytes + segmentProbe.plain.byteLength;
  // A bomb stops at the first byte too many. The chunk has room for all, so one trip does.
  const chunkSize = Math.max(outputBytes + 64, OWN_BYTES);
  return { info: true, chunkSize, maxOutputLength: outputBytes };
}

function deflate(plain: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    deflateRaw(plain, deflateOptions(plain), (error, coded) => {
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
  return new Promise((resolve, reject) => {
    inflateRaw(whole, inflateOptions(plainBytes), (error, result) => {
      if (error !== null) {
        reject(segmentMalformed(coded, plainBytes, 'it is no deflate of that length', error));
        return;
      }
      const { buffer, engine } = result as unknown as InflateInfo;
      resolve({ output: buffer, usedBytes: engine.bytesWritten });
    });
  });
}
