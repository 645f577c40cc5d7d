import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { segmentCodecContract } from '../../../test/contracts/segment-codec.ts';
import { storedSegment } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { chooseCodec, openFastestCodec } from './fastest-segment-codec.ts';
import { openIsalSegmentCodec } from './isal-segment-codec.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

function tryIsal(): SegmentCodec | undefined {
  try {
    return openIsalSegmentCodec();
  } catch {
    return undefined;
  }
}

const isal = tryIsal();

segmentCodecContract(zlibSegmentCodec, { others: isal === undefined ? [] : [isal] });
if (isal === undefined) {
  test('segment codec: isal', (t) => t.skip('libisal2 is not installed'));
} else {
  segmentCodecContract(isal, { others: [zlibSegmentCodec] });
}

describe('the fastest engine', () => {
  test('is ISA-L where it is installed, else zlib, and says why', async () => {
    const { codec, reason } = await openFastestCodec();
    assert.equal(codec.name, isal === undefined ? 'zlib-1' : 'isal-2');
    assert.match(reason, /libisal/);
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
      decodeRun: (coded, plain) => zlibSegmentCodec.decodeRun(coded, plain),
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
