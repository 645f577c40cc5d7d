import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isFailure } from '../base/index.ts';
import {
  encodePackFooter,
  encodePackHeader,
  PACK_ENTRY_BYTES,
  PACK_HEADER_BYTES,
  type PackEntry,
  parsePackFooter,
  parsePackTrailer,
} from './pack.ts';

const ID = '00112233445566778899aabbccddeeff';
const UINT32 = fc.nat({ max: 0xffff_ffff });

const ENTRIES: fc.Arbitrary<PackEntry[]> = fc
  .array(
    fc.record({
      seed: fc.uint8Array({ minLength: 8, maxLength: 8 }),
      gap: fc.nat({ max: 100 }),
      codedBytes: fc.integer({ min: 1, max: 263_168 }),
      plainBytes: fc.integer({ min: 1, max: 262_144 }),
      plainCrc32: UINT32,
      codedCrc32: UINT32,
    }),
    { maxLength: 40 },
  )
  .map((parts) => {
    let end = PACK_HEADER_BYTES;
    return parts.map(({ seed, gap, ...rest }) => {
      const offsetBytes = end + gap;
      end = offsetBytes + rest.codedBytes;
      return { digest: digestOf(seed), offsetBytes, ...rest };
    });
  });

function footerOffsetOf(entries: readonly PackEntry[]): number {
  const last = entries.at(-1);
  return last === undefined ? PACK_HEADER_BYTES : last.offsetBytes + last.codedBytes;
}

describe('the index of a pack', () => {
  test('comes back as it was written', () => {
    fc.assert(
      fc.property(ENTRIES, (entries) => {
        const footer = encodePackFooter(ID, entries);
        const offset = footerOffsetOf(entries);
        const trailer = parsePackTrailer(footer.subarray(-56), ID, offset + footer.length);
        assert.equal(trailer.footerOffsetBytes, offset);
        assert.deepEqual(parsePackFooter(encodePackHeader(ID), footer, ID, offset), entries);
      }),
    );
  });

  test('is refused when any byte of it differs', () => {
    const flip = fc.record({ at: fc.nat(), bit: fc.nat({ max: 7 }) });
    fc.assert(
      fc.property(ENTRIES, flip, (entries, { at, bit }) => {
        const whole = Buffer.concat([encodePackHeader(ID), encodePackFooter(ID, entries)]);
        const index = at % whole.length;
        whole.writeUInt8(whole.readUInt8(index) ^ (1 << bit), index);
        const [header, footer] = [whole.subarray(0, 32), whole.subarray(32)];
        assert.throws(
          () => parsePackFooter(header, footer, ID, footerOffsetOf(entries)),
          (error) => isFailure(error, 'pack-corrupt') || isFailure(error, 'version-unknown'),
        );
      }),
    );
  });

  test('is refused with a failure, never with a crash, whatever the bytes are', () => {
    const bytes = fc.uint8Array({ maxLength: 400 });
    fc.assert(
      fc.property(bytes, bytes, fc.nat(), (header, footer, offset) => {
        assert.throws(
          () => parsePackFooter(header, footer, ID, offset),
          (error) => isFailure(error, 'pack-corrupt') || isFailure(error, 'version-unknown'),
        );
      }),
    );
  });

  test('is laid out as docs/formats/pack.md says', () => {
    const entry = {
      digest: digestOf(Buffer.from('x')),
      offsetBytes: 32,
      codedBytes: 6,
      plainBytes: 1,
      plainCrc32: 0x0102_0304,
      codedCrc32: 0xfffe_fdfc,
    };
    assert.equal(
      encodePackHeader(ID).toString('hex'),
      `${Buffer.from('ingotpak').toString('hex')}0100000000000000${ID}`,
    );
    const footer = encodePackFooter(ID, [entry]);
    assert.equal(
      footer.subarray(0, PACK_ENTRY_BYTES).toString('hex'),
      `${entry.digest}2000000000000000060000000100000004030201fcfdfeff`,
    );
    assert.equal(
      footer.subarray(PACK_ENTRY_BYTES + 32).toString('hex'),
      `01000000000000002600000000000000${Buffer.from('ingotend').toString('hex')}`,
    );
  });
});
