import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isFailure } from '../../base/index.ts';
import type { ManifestEntry } from '../../keep/index.ts';
import { decodePage, decodePages, encodePage, encodePages } from './read-wire.ts';

const entry: fc.Arbitrary<ManifestEntry> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('hole' as const),
      lengthBytes: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    },
    { noNullPrototype: true },
  ),
  fc.record(
    {
      kind: fc.constant('chunk' as const),
      lengthBytes: fc.integer({ min: 1, max: 256 * 1024 }),
      digest: fc.uint8Array({ minLength: 1, maxLength: 4 }).map(digestOf),
    },
    { noNullPrototype: true },
  ),
);

describe('manifest pages on the wire', () => {
  test('entries come back as they were', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), (entries) => {
        assert.deepEqual(decodePage(encodePage(entries)), entries);
      }),
    );
  });

  test('a page that is cut, longer or changed is refused or gives other entries, never a crash', () => {
    const bytes = fc.array(entry, { minLength: 1, maxLength: 5 }).map(encodePage);
    const change = fc.record({ at: fc.nat(), value: fc.nat({ max: 255 }), cut: fc.nat() });
    fc.assert(
      fc.property(bytes, change, (page, { at, value, cut }) => {
        const changed = Buffer.from(page);
        changed[at % changed.length] = value;
        for (const wrong of [
          changed,
          page.subarray(0, cut % page.length),
          Buffer.concat([page, changed]),
        ]) {
          try {
            for (const { lengthBytes } of decodePage(wrong)) assert.ok(lengthBytes > 0);
          } catch (thrown) {
            assert.ok(isFailure(thrown), String(thrown));
          }
        }
      }),
    );
  });

  test('a page that is cut short is refused', () => {
    const page = encodePage([{ kind: 'chunk', lengthBytes: 5, digest: digestOf(Buffer.alloc(5)) }]);
    for (let length = 0; length < page.length; length++) {
      assert.throws(
        () => decodePage(page.subarray(0, length)),
        (thrown) => isFailure(thrown, 'manifest-invalid'),
      );
    }
  });

  test('a list of pages comes back, and one that does not cover the disk is refused', () => {
    const pages = { sizeBytes: 12, plainBytes: [5, 7] };
    assert.deepEqual(decodePages(encodePages(pages)), pages);
    for (const wrong of [
      encodePages({ ...pages, sizeBytes: 13 }),
      encodePages(pages).subarray(0, 30),
    ]) {
      assert.throws(
        () => decodePages(wrong),
        (thrown) => isFailure(thrown, 'manifest-invalid'),
      );
    }
  });
});
