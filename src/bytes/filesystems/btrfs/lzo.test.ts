import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isFailure } from '../../../base/index.ts';
import { decodeBtrfsLzo, decodeLzo1x } from './lzo.ts';

const SECTOR = 4096;
const END = [0x11, 0, 0];

/** What an encoder may do next: literals, or a copy of what is there. */
type Step = { readonly literals: number } | { readonly copy: number; readonly distance: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ literals: fc.integer({ min: 4, max: 600 }) }),
  fc.record({
    copy: fc.integer({ min: 3, max: 700 }),
    distance: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 49_151 })),
  }),
);

/** A length above what fits: zeros for 255 each, then the rest. */
function longLength(value: number, most: number): number[] {
  if (value <= most) return [value];
  const rest = value - most;
  const zeros = Math.ceil(rest / 255) - 1;
  return [0, ...new Array<number>(zeros).fill(0), rest - zeros * 255];
}

/** Encodes by the table of docs/formats/lzo.md, with every form that fits in turn. */
function encode(steps: readonly Step[]): { readonly coded: Buffer; readonly plain: Buffer } {
  const coded: number[] = [];
  const plain: number[] = [];
  let behindRun = false;
  const literals = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const byte = (plain.length * 31 + (plain.length >> 3)) & 0xff;
      plain.push(byte);
      coded.push(byte);
    }
  };
  for (const [n, next] of steps.entries()) {
    if ('literals' in next) {
      // Two runs cannot follow each other.
      if (behindRun) continue;
      if (coded.length === 0 && next.literals <= 238) coded.push(17 + next.literals);
      else coded.push(...longLength(next.literals - 3, 15));
      literals(next.literals);
      behindRun = true;
      continue;
    }
    if (plain.length === 0) continue;
    const distance = Math.min(next.distance, plain.length);
    const copy = distance <= 2048 && n % 3 === 0 ? Math.min(next.copy, 8) : next.copy;
    coded.push(...copyOf(copy, distance, behindRun));
    for (let i = 0; i < copy; i++) plain.push(plain[plain.length - distance] ?? 0);
    behindRun = false;
  }
  return { coded: Buffer.from([...coded, ...END]), plain: Buffer.from(plain) };
}

function copyOf(length: number, distance: number, behindRun: boolean): number[] {
  if (behindRun && length === 3 && distance > 2048 && distance <= 3072) {
    const near = distance - 2049;
    return [(near & 3) << 2, near >> 2];
  }
  if (length <= 4 && length >= 3 && distance <= 2048) {
    const near = distance - 1;
    return [0x40 | ((length - 3) << 5) | ((near & 7) << 2), near >> 3];
  }
  if (length >= 5 && length <= 8 && distance <= 2048) {
    const near = distance - 1;
    return [0x80 | ((length - 5) << 5) | ((near & 7) << 2), near >> 3];
  }
  if (distance <= 16_384) {
    const [first = 0, ...rest] = longLength(length - 2, 31);
    const pair = (distance - 1) << 2;
    return [0x20 | first, ...rest, pair & 0xff, pair >> 8];
  }
  const far = distance - 16_384;
  const [first = 0, ...rest] = longLength(length - 2, 7);
  const pair = (far & 0x3fff) << 2;
  // A distance of 16384 alone would be the end.
  if (far === 0) return copyOf(length, distance - 1, behindRun);
  return [0x10 | ((far >> 14) << 3) | first, ...rest, pair & 0xff, pair >> 8];
}

describe('LZO', () => {
  test('gives what was encoded, whatever the instructions', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
        const { coded, plain } = encode(steps);
        const target = Buffer.alloc(plain.length);
        assert.equal(decodeLzo1x(coded, target), plain.length);
        assert.ok(target.equals(plain));
      }),
    );
  });

  test('copies the literals behind an instruction, and two bytes from near', () => {
    // Four literals; three from four before with one literal; two from one before; the end.
    const coded = Buffer.from([21, ...Buffer.from('abcd'), 0x4d, 0, 0x65, 0x00, 0x00, ...END]);
    const target = Buffer.alloc(10);
    assert.equal(decodeLzo1x(coded, target), 10);
    assert.equal(target.toString(), 'abcdabceee');
  });

  test('refuses what is cut, too long for its room, or has bytes behind its end', () => {
    const { coded, plain } = encode([{ literals: 500 }, { copy: 300, distance: 200 }]);
    const refused = (bytes: Buffer, room = plain.length): void => {
      assert.throws(
        () => decodeLzo1x(bytes, Buffer.alloc(room)),
        (thrown) => isFailure(thrown, 'filesystem-malformed'),
      );
    };
    for (let length = 0; length < coded.length; length++) refused(coded.subarray(0, length));
    refused(coded, plain.length - 1);
    refused(Buffer.concat([coded, Buffer.alloc(1)]));
    refused(Buffer.from([0x2f, 0xff, 0xff, ...END]), 100);
  });

  test('never does anything else with any bytes', () => {
    const target = Buffer.alloc(SECTOR);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          assert.ok(decodeLzo1x(Buffer.from(bytes), target) <= SECTOR);
        } catch (thrown) {
          assert.ok(isFailure(thrown, 'filesystem-malformed'), String(thrown));
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('an extent of btrfs with LZO', () => {
  const sector = (seed: number): { readonly coded: Buffer; readonly plain: Buffer } =>
    encode([{ literals: 700 + seed }, { copy: SECTOR - 700 - seed, distance: 600 }]);

  function extentOf(segments: readonly Buffer[]): Buffer {
    const parts: Buffer[] = [Buffer.alloc(4)];
    let at = 4;
    for (const segment of segments) {
      const left = SECTOR - (at % SECTOR);
      const padding = left < 4 ? left : 0;
      const length = Buffer.alloc(4);
      length.writeUInt32LE(segment.length);
      parts.push(Buffer.alloc(padding), length, segment);
      at += padding + 4 + segment.length;
    }
    parts[0]?.writeUInt32LE(at);
    return Buffer.concat([...parts, Buffer.alloc(-at & (SECTOR - 1))]);
  }

  test('has a sector in each segment, whose length no sector splits', () => {
    // Lengths of segments that bring each number of bytes before the end of a sector.
    for (let seed = 0; seed < 40; seed++) {
      const sectors = Array.from({ length: 20 }, (_, i) => sector((seed * 7 + i) % 300));
      const plain = Buffer.concat(sectors.map((one) => one.plain));
      const stored = extentOf(sectors.map((one) => one.coded));
      const options = { plainBytes: plain.length, sectorBytes: SECTOR };
      assert.ok(decodeBtrfsLzo(stored, options).equals(plain), `seed ${seed}`);
    }
  });

  test('is refused when its lengths cannot be', () => {
    const { coded } = sector(0);
    const whole = extentOf([coded]);
    for (const [at, value] of [
      [0, 3],
      [0, whole.length + 1],
      [4, 0],
      [4, whole.length],
    ] as const) {
      const bytes = Buffer.from(whole);
      bytes.writeUInt32LE(value, at);
      assert.throws(
        () => decodeBtrfsLzo(bytes, { plainBytes: SECTOR, sectorBytes: SECTOR }),
        (thrown) => isFailure(thrown, 'filesystem-malformed'),
      );
    }
    assert.throws(() => decodeBtrfsLzo(Buffer.alloc(3), { plainBytes: 1, sectorBytes: SECTOR }));
  });
});
