import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isFailure } from '../base/index.ts';
import {
  encodeManifestPage,
  MAX_PAGE_ENTRIES,
  PageCutter,
  type PageEntry,
  parseManifestPage,
} from './manifest-page.ts';
import {
  formatManifestRoot,
  type ManifestRoot,
  parseManifestRoot,
  publicKeyBytes,
} from './manifest-root.ts';

const ENTRY: fc.Arbitrary<PageEntry> = fc
  .tuple(
    fc.option(fc.uint8Array({ minLength: 4, maxLength: 4 })),
    fc.integer({ min: 1, max: 2 ** 40 }),
  )
  .map(([seed, length]) =>
    seed === null
      ? { kind: 'hole', lengthBytes: length }
      : { kind: 'chunk', digest: digestOf(seed), lengthBytes: (length % 262_144) + 1 },
  );

function chunk(seed: number): PageEntry {
  return { kind: 'chunk', digest: digestOf(Buffer.from(String(seed))), lengthBytes: 4096 };
}

function cut(entries: Iterable<PageEntry>) {
  const cutter = new PageCutter();
  const pages = [...entries].map((entry) => cutter.push(entry));
  return [...pages, cutter.end()].filter((page) => page !== undefined);
}

describe('a manifest page', () => {
  test('comes back as it was written', () => {
    fc.assert(
      fc.property(fc.array(ENTRY, { minLength: 1, maxLength: 60 }), (entries) => {
        const page = encodeManifestPage(entries);
        assert.deepEqual(parseManifestPage(page.bytes, page.digest), page);
      }),
    );
  });

  test('is refused when any byte of it differs', () => {
    const entries = fc.array(ENTRY, { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(entries, fc.nat(), (list, at) => {
        const page = encodeManifestPage(list);
        const bytes = Buffer.from(page.bytes);
        bytes.writeUInt8(bytes.readUInt8(at % bytes.length) ^ 1, at % bytes.length);
        assert.throws(
          () => parseManifestPage(bytes, page.digest),
          (error) => isFailure(error, 'manifest-invalid'),
        );
      }),
    );
  });

  test('is refused with a failure whatever its bytes are, also under their own name', () => {
    const start = Buffer.from('696e676f7470616701000000', 'hex');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (tail, isClose) => {
        const bytes = isClose ? Buffer.concat([start, tail]) : Buffer.from(tail);
        assert.throws(
          () => parseManifestPage(bytes, digestOf(bytes)),
          (error) => isFailure(error, 'manifest-invalid') || isFailure(error, 'version-unknown'),
        );
      }),
    );
  });

  test('two images that differ in a few chunks share most pages', () => {
    const list = Array.from({ length: 20_000 }, (_, i) => chunk(i));
    const changed = [...list.slice(0, 9000), chunk(-1), chunk(-2), ...list.slice(9001)];
    const [one, two] = [cut(list), cut(changed)];
    const known = new Set(one.map((page) => page.digest));
    assert.ok(one.length > 20, `${one.length} pages`);
    assert.ok(two.filter((page) => !known.has(page.digest)).length <= 2);
  });

  test('has at most 2048 entries, also of chunks that all end a page', () => {
    const zero = Array.from({ length: 10_000 }, () => chunk(7));
    for (const list of [
      zero,
      Array.from({ length: 5000 }, () => ({ kind: 'hole', lengthBytes: 1 }) as const),
    ]) {
      const pages = cut(list);
      assert.ok(pages.every((page) => page.entries.length <= MAX_PAGE_ENTRIES));
      assert.ok(pages.length <= list.length / 64 + 1);
      assert.equal(
        pages.reduce((sum, page) => sum + page.entries.length, 0),
        list.length,
      );
    }
  });
});

describe('a manifest root', () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const key = publicKeyBytes(createPublicKey(privateKey)).toString('base64');
  const page = encodeManifestPage([chunk(1)]);
  const root: ManifestRoot = {
    libraryId: 'a library',
    imageId: 'img-00001',
    ownerId: 'acc-00001',
    createdAt: 1,
    virtualSizeBytes: 4096,
    chunkRule: 'test-1',
    claimedDigest: undefined,
    capture: {
      consistency: 'frozen',
      freezeMs: 1.5,
      filesystem: undefined,
      source: '/ä\n',
      freeSpace: 'zero',
    },
    pages: [{ digest: page.digest, entries: 1, plainBytes: 4096 }],
  };

  test('comes back as it was signed', () => {
    assert.deepEqual(parseManifestRoot(formatManifestRoot(root, privateKey), [key]), root);
    const full = {
      ...root,
      claimedDigest: page.digest,
      capture: { ...root.capture, filesystem: 'ext4' },
    };
    assert.deepEqual(parseManifestRoot(formatManifestRoot(full, privateKey), [key]), full);
  });

  test('is refused when any byte of it differs', () => {
    const bytes = formatManifestRoot(root, privateKey);
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      assert.throws(
        () => parseManifestRoot(changed, [key]),
        (error) => isFailure(error, 'manifest-invalid') || isFailure(error, 'version-unknown'),
        `byte ${at}`,
      );
    }
  });

  test('is refused when somebody else signed it, or nobody', () => {
    const other = generateKeyPairSync('ed25519').privateKey;
    for (const bytes of [
      formatManifestRoot(root, other),
      formatManifestRoot(root, privateKey).subarray(0, -40),
      Buffer.concat([formatManifestRoot(root, privateKey), Buffer.from('x')]),
      Buffer.alloc(0),
      Buffer.from('{}\n'),
      Buffer.from('null\n'),
    ]) {
      assert.throws(
        () => parseManifestRoot(bytes, [key]),
        (error) => isFailure(error, 'manifest-invalid'),
      );
    }
  });

  test('is refused when its pages are not the disk', () => {
    const wrong = formatManifestRoot({ ...root, virtualSizeBytes: 4097 }, privateKey);
    assert.throws(
      () => parseManifestRoot(wrong, [key]),
      (error) => isFailure(error, 'manifest-invalid'),
    );
  });
});
