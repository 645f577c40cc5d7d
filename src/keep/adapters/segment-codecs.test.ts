import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { segmentCodecContract } from '../../../test/contracts/segment-codec.ts';
import { storedSegment, storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { chooseCodec, openCodec, openFastestCodec } from './fastest-segment-codec.ts';
import { openIsalSegmentCodec, openIsalSegmentEngine } from './isal-segment-codec.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';
import { callsOfZlib, openZlibSegmentEngine } from './zlib-segment-engine.ts';

function tryIsal(): SegmentCodec | undefined {
  try {
    return openIsalSegmentCodec();
  } catch {
    return undefined;
  }
}

const isal = tryIsal();

/** An engine of one thread as a codec, so that one suite holds both to the same promises. */
function codecOver(engine: SegmentEngine, codec: SegmentCodec): SegmentCodec {
  return {
    ...codec,
    name: `${engine.name} on one thread`,
    encode: async (plain) => {
      const target = Buffer.alloc(storedSegmentBytes(plain.byteLength));
      const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
      return target.subarray(0, engine.encodeInto(bytes, target));
    },
    decode: async (coded, plainBytes) => Buffer.from(engine.decode(coded, plainBytes)),
    crc32: (bytes) => engine.crc32(Buffer.from(bytes)),
  };
}

segmentCodecContract(zlibSegmentCodec, { others: isal === undefined ? [] : [isal] });
segmentCodecContract(codecOver(openZlibSegmentEngine(), zlibSegmentCodec), { others: [] });
segmentCodecContract(codecOver(openZlibSegmentEngine(callsOfZlib), zlibSegmentCodec), {
  others: [],
});
if (isal === undefined) {
  test('segment codec: isal', (t) => t.skip('libisal2 is not installed'));
} else {
  segmentCodecContract(isal, { others: [zlibSegmentCodec] });
  segmentCodecContract(codecOver(openIsalSegmentEngine(), isal), { others: [zlibSegmentCodec] });
}

describe('the fastest engine', () => {
  test('is ISA-L where it is installed, else zlib, and says why', async () => {
    const { codec, reason } = await openCodec('auto');
    assert.equal(codec.name, isal === undefined ? 'zlib-2' : 'isal-2');
    assert.match(reason, /libisal/);
  });

  test('is zlib where that is asked for, and a word that is no engine is refused', async () => {
    assert.equal((await openCodec('zlib')).codec, zlibSegmentCodec);
    const before = process.env['INGOT_ENGINE'];
    try {
      process.env['INGOT_ENGINE'] = 'zlib';
      assert.equal((await openFastestCodec()).codec, zlibSegmentCodec);
      process.env['INGOT_ENGINE'] = 'lz4';
      await assert.rejects(openFastestCodec(), /auto, isal or zlib, not lz4/);
    } finally {
      if (before === undefined) delete process.env['INGOT_ENGINE'];
      else process.env['INGOT_ENGINE'] = before;
    }
  });

  test('is zlib when the library is not there', async () => {
    const { codec, reason } = await chooseCodec(() => {
      throw new Error('libisal.so.2: cannot open shared object file');
    });
    assert.equal(codec, zlibSegmentCodec);
    assert.match(reason, /cannot open shared object/);
  });

  test('is zlib when the library codes other bytes than it was given', async () => {
    const broken: SegmentCodec = {
      name: 'broken',
      encode: (plain) => {
        const other = Buffer.from(plain);
        other[other.byteLength - 1] = 0x55;
        return zlibSegmentCodec.encode(other);
      },
      decode: (coded, plainBytes) => zlibSegmentCodec.decode(coded, plainBytes),
      crc32: (bytes) => zlibSegmentCodec.crc32(bytes),
    };
    const { codec, reason } = await chooseCodec(() => broken);
    assert.equal(codec, zlibSegmentCodec);
    assert.match(reason, /does not give back/);
  });

  test('is zlib when the library works but does not compress', async () => {
    const storing = {
      ...zlibSegmentCodec,
      encode: async (plain: Uint8Array) => storedSegment(plain),
    };
    const { codec, reason } = await chooseCodec(() => storing);
    assert.equal(codec, zlibSegmentCodec);
    assert.match(reason, /does not compress/);
  });
});
