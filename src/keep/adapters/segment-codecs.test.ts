import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { segmentCodecContract } from '../../../test/contracts/segment-codec.ts';
import { storedSegment, storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { firstOf, openCodec, openFastestCodec, tryEngine } from './fastest-segment-codec.ts';
import { openIsalSegmentCodec, openIsalSegmentEngine } from './isal-segment-codec.ts';
import { wasmSegmentCodec } from './wasm-segment-codec.ts';
import { openWasmSegmentEngine } from './wasm-segment-engine.ts';
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

const others = isal === undefined ? [zlibSegmentCodec] : [zlibSegmentCodec, isal];

segmentCodecContract(zlibSegmentCodec, { others: others.with(0, wasmSegmentCodec) });
segmentCodecContract(wasmSegmentCodec, { others });
segmentCodecContract(codecOver(openWasmSegmentEngine(), wasmSegmentCodec), { others });
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

/** Runs with another `INGOT_ENGINE`. */
async function withEngine(name: string, work: () => Promise<void>): Promise<void> {
  const before = process.env['INGOT_ENGINE'];
  try {
    process.env['INGOT_ENGINE'] = name;
    await work();
  } finally {
    if (before === undefined) delete process.env['INGOT_ENGINE'];
    else process.env['INGOT_ENGINE'] = before;
  }
}

describe('the fastest engine', () => {
  test('is ISA-L where it is installed, else WebAssembly, and says why', async () => {
    const { codec, reason } = await openCodec('auto');
    assert.equal(codec.name, isal === undefined ? 'wasm-1' : 'isal-2');
    assert.match(reason, /^libisal/);
  });

  test('is the one that is asked for, and a word that is no engine is refused', async () => {
    assert.equal((await openCodec('zlib')).codec, zlibSegmentCodec);
    const { codec, reason } = await openCodec('wasm');
    assert.equal(codec, wasmSegmentCodec);
    assert.equal(reason, 'WebAssembly works and passed its round trips');
    await withEngine('zlib', async () => {
      assert.equal((await openFastestCodec()).codec, zlibSegmentCodec);
    });
    await withEngine('wasm', async () => {
      assert.equal((await openFastestCodec()).codec, wasmSegmentCodec);
    });
    await withEngine('lz4', async () => {
      await assert.rejects(openFastestCodec(), /auto, isal, wasm or zlib, not lz4/);
    });
  });

  test('is zlib when no other works, and each says why', async () => {
    const fails = (means: string) => () =>
      tryEngine({
        means,
        open: () => {
          throw new Error('it is not there');
        },
      });
    const { codec, reason } = await firstOf([fails('one'), fails('other')]);
    assert.equal(codec, zlibSegmentCodec);
    assert.equal(reason, 'one is not used: it is not there; other is not used: it is not there');
  });

  test('is the second where the first does not work', async () => {
    const bad = { codec: undefined, reason: 'the first is not used' };
    const good = { codec: wasmSegmentCodec, reason: 'the second works' };
    const { codec, reason } = await firstOf([async () => bad, async () => good]);
    assert.equal(codec, wasmSegmentCodec);
    assert.equal(reason, 'the first is not used; the second works');
  });

  test('is none that codes other bytes than it was given', async () => {
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
    const { codec, reason } = await tryEngine({ means: 'it', open: () => broken });
    assert.equal(codec, undefined);
    assert.match(reason, /does not give back/);
  });

  test('is none that works but does not compress', async () => {
    const storing = {
      ...zlibSegmentCodec,
      encode: async (plain: Uint8Array) => storedSegment(plain),
    };
    const { codec, reason } = await tryEngine({ means: 'it', open: () => storing });
    assert.equal(codec, undefined);
    assert.match(reason, /does not compress/);
  });

  test('is not WebAssembly where Node runs without it', () => {
    const { WebAssembly: calls } = globalThis as { WebAssembly?: unknown };
    try {
      Object.defineProperty(globalThis, 'WebAssembly', { value: undefined, configurable: true });
      assert.throws(openWasmSegmentEngine, /this Node has no WebAssembly/);
    } finally {
      Object.defineProperty(globalThis, 'WebAssembly', { value: calls, configurable: true });
    }
  });
});
