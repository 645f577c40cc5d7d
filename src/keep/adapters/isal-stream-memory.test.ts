import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { openIsalSegmentEngine } from './isal-segment-codec.ts';
import { takeStreamMemory } from './isal-stream-memory.ts';

/** CRC-32C of 32 bits from 0 on, as the instruction of x86 computes it. */
function crc32c(bits: number): number {
  let crc = bits;
  for (let i = 0; i < 32; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc >>> 0;
}

function tryIsal(): SegmentEngine | undefined {
  try {
    return openIsalSegmentEngine();
  } catch {
    return undefined;
  }
}

const engine = tryIsal();
const skip = engine === undefined || process.arch !== 'x64' ? 'no ISA-L on x86 here' : false;

function codedBytes(plain: Buffer): number {
  return engine?.encodeInto(plain, Buffer.alloc(storedSegmentBytes(plain.length))) ?? 0;
}

test('memory for streams lies where the hash of its address is 0, each at its own place', {
  skip,
}, () => {
  const places = Array.from({ length: 4 }, () => takeStreamMemory(96 * 1024));
  for (const memory of places) {
    assert.ok(memory !== undefined);
    assert.equal(crc32c(Number((memory.address >> 16n) & 0xffff_ffffn)) & 0xffff, 0);
    memory.bytes.fill(0xa5);
    assert.equal(memory.bytes.length, 96 * 1024);
  }
  assert.equal(new Set(places.map((memory) => memory?.address)).size, 4);
});

test('what a chunk repeats of its third to sixth byte is found wherever the stream lies', {
  skip,
}, () => {
  // Four bytes whose hash is 0: the engine notes them under the hash of the stream's address.
  const repeated: Buffer[] = [];
  for (let bits = 1; repeated.length < 100; bits += 1) {
    if ((crc32c(Math.imul(bits, 0x9e3779b1) >>> 0) & 0x7fff) !== 0) continue;
    const four = Buffer.alloc(4);
    four.writeUInt32LE(Math.imul(bits, 0x9e3779b1) >>> 0);
    repeated.push(four);
  }
  let [withRepetition, without] = [0, 0];
  for (const four of repeated) {
    // Digits otherwise, the same ones each time, which repeat nothing else of it.
    const rest = Buffer.from(
      createHash('shake256', { outputLength: 300 }).update(four).digest('hex'),
    );
    const start = Buffer.concat([Buffer.from('##'), four, rest]);
    withRepetition += codedBytes(Buffer.concat([start, four, rest.subarray(100, 110)]));
    without += codedBytes(
      Buffer.concat([start, Buffer.from(four).reverse(), rest.subarray(100, 110)]),
    );
  }
  assert.ok(withRepetition < without, `${withRepetition} and ${without} bytes`);
});
