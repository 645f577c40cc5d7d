import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isFailure } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type { IngestSummary, ManifestEntry } from '../../keep/index.ts';
import { encodeManifest, ManifestReader } from './manifest-stream.ts';
import { decodeSegments, encodeSegments } from './segment-frames.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const digest = fc.uint8Array({ maxLength: 4 }).map(digestOf);
const segment: fc.Arbitrary<Segment> = fc.record(
  {
    digest,
    plainBytes: fc.integer({ min: 1, max: 262_144 }),
    plainCrc32: u32,
    codedCrc32: u32,
    coded: fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
  },
  { noNullPrototype: true },
);
const entry: fc.Arbitrary<ManifestEntry> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('chunk' as const),
      digest,
      lengthBytes: fc.integer({ min: 1, max: 262_144 }),
    },
    { noNullPrototype: true },
  ),
  fc.record(
    {
      kind: fc.constant('hole' as const),
      lengthBytes: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    },
    { noNullPrototype: true },
  ),
);
const summary: IngestSummary = {
  sizeBytes: 12,
  chunkRule: 'file-extents-3',
  plainDigest: digestOf(Buffer.alloc(12)),
  capture: {
    consistency: 'frozen',
    freezeMs: 12.5,
    filesystem: 'ext4',
    source: '/mnt',
    freeSpace: 'zero',
  },
};

const REFUSALS = ['request-invalid', 'version-unknown', 'segment-malformed', 'manifest-invalid'];

const isRefusal = (thrown: unknown): boolean => isFailure(thrown) && REFUSALS.includes(thrown.code);

async function* one<T>(...values: T[]): AsyncGenerator<T> {
  yield* values;
}

async function manifestBytes(entries: ManifestEntry[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of encodeManifest(one(entries), summary)) parts.push(part);
  return Buffer.concat(parts);
}

async function readAll(
  pieces: Iterable<Buffer>,
): Promise<{ entries: ManifestEntry[]; summary: IngestSummary }> {
  const reader = new ManifestReader(one(...pieces));
  const head = await reader.summary();
  const entries: ManifestEntry[] = [];
  for await (const batch of reader.entries()) entries.push(...batch);
  return { entries, summary: head };
}

function inPieces(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.byteLength; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

describe('segments on the wire', () => {
  test('come back as they were sent', () => {
    fc.assert(
      fc.property(fc.array(segment, { maxLength: 20 }), (segments) => {
        assert.deepEqual(decodeSegments(Buffer.concat(encodeSegments(segments))), segments);
      }),
    );
  });

  test('are refused when a byte is missing or too many', () => {
    fc.assert(
      fc.property(fc.array(segment, { minLength: 1, maxLength: 5 }), fc.nat(), (segments, cut) => {
        const body = Buffer.concat(encodeSegments(segments));
        assert.throws(() => decodeSegments(body.subarray(0, cut % body.byteLength)), isRefusal);
        assert.throws(() => decodeSegments(Buffer.concat([body, Buffer.alloc(1)])), isRefusal);
      }),
    );
  });

  test('are refused, and nothing else happens, when the headers lie', () => {
    fc.assert(
      fc.property(
        fc.array(segment, { maxLength: 3 }),
        fc.nat(),
        fc.nat(255),
        (segments, at, to) => {
          const body = Buffer.concat(encodeSegments(segments));
          body[at % body.byteLength] = to;
          try {
            for (const { coded } of decodeSegments(body))
              assert.ok(coded.byteLength <= body.byteLength);
          } catch (thrown) {
            assert.ok(isRefusal(thrown), String(thrown));
          }
        },
      ),
    );
  });

  test('of another version are refused as such', () => {
    const body = Buffer.concat(encodeSegments([]));
    body[7] = 2;
    assert.throws(
      () => decodeSegments(body),
      (thrown) => isFailure(thrown, 'version-unknown'),
    );
  });
});

describe('a manifest on the wire', () => {
  test('comes back as it was sent, in whatever pieces it arrives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 30 }),
        fc.integer({ min: 1, max: 100 }),
        async (entries, size) => {
          const read = await readAll(inPieces(await manifestBytes(entries), size));
          assert.deepEqual(read, { entries, summary });
        },
      ),
    );
  });

  test('that was cut anywhere, or goes on, is refused', async () => {
    const bytes = await manifestBytes([
      { kind: 'hole', lengthBytes: 4 },
      { kind: 'chunk', lengthBytes: 8, digest: digestOf(Buffer.alloc(8)) },
    ]);
    for (let cut = 0; cut < bytes.byteLength; cut++) {
      await assert.rejects(readAll([bytes.subarray(0, cut)]), isRefusal, `cut at ${cut}`);
    }
    await assert.rejects(readAll([bytes, Buffer.alloc(1)]), isRefusal);
    const miscounted = Buffer.from(bytes);
    miscounted[bytes.byteLength - 8] = 3;
    await assert.rejects(readAll([miscounted]), isRefusal);
  });

  test('with impossible lengths, tags or a summary that is none is refused', async () => {
    const bytes = await manifestBytes([{ kind: 'hole', lengthBytes: 4 }]);
    const entryAt = bytes.byteLength - 18;
    const change = (at: number, to: number[]): Buffer[] => {
      const changed = Buffer.from(bytes);
      changed.set(to, at);
      return [changed];
    };
    await assert.rejects(readAll(change(0, [0x78])), isRefusal);
    await assert.rejects(readAll(change(7, [9])), isRefusal);
    await assert.rejects(readAll(change(8, [255, 255, 255, 255])), isRefusal);
    await assert.rejects(readAll(change(12, [0x78])), isRefusal);
    await assert.rejects(readAll(change(entryAt, [7])), isRefusal);
    await assert.rejects(readAll(change(entryAt + 1, [0])), isRefusal, 'a hole of no bytes');
    await assert.rejects(readAll(change(entryAt + 8, [255])), isRefusal, 'a hole beyond 2^53');
  });
});
