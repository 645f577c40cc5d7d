import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, KIB } from '../base/index.ts';
import { ChunkCutter, type ChunkRuleInput, type Cut } from './chunk-rule.ts';
import type { FileExtents } from './extent.ts';

const BLOCK = 4 * KIB;
const MAX = 256 * KIB;

/** Bytes that no cut rule likes more than others, the same for the same name. */
function noise(name: string, lengthBytes: number): Buffer {
  const key = createHash('md5').update(name).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(lengthBytes));
}

function fileExtents(list: readonly { at: number; length: number; inFile: number }[]): FileExtents {
  return {
    diskOffsets: Float64Array.from(list, (e) => e.at),
    lengths: Float64Array.from(list, (e) => e.length),
    fileOffsets: Float64Array.from(list, (e) => e.inFile),
  };
}

type Disk = Omit<ChunkRuleInput, 'sizeBytes'> & { readonly bytes: Buffer };

/** Cuts a disk whose bytes come in pushes of these lengths, over and over. */
function cut(disk: Disk, pushes: readonly number[] = [1_000_000]): Cut[] {
  const cutter = new ChunkCutter({ ...disk, sizeBytes: disk.bytes.byteLength });
  const cuts: Cut[] = [];
  let turn = 0;
  for (const { offsetBytes, lengthBytes } of disk.extents) {
    for (let done = 0; done < lengthBytes; ) {
      const length = Math.min(pushes[turn++ % pushes.length] ?? 1, lengthBytes - done);
      const at = offsetBytes + done;
      cuts.push(...cutter.push(disk.bytes.subarray(at, at + length)));
      done += length;
    }
  }
  cuts.push(...cutter.finish());
  return cuts;
}

/** Cuts without their bytes, which are compared by place. */
function places(cuts: readonly Cut[]): string[] {
  return cuts.map((one) => `${one.kind} ${one.offsetBytes}+${one.lengthBytes}`);
}

function chunksOf(cuts: readonly Cut[]): Buffer[] {
  return cuts.flatMap((one) => (one.kind === 'chunk' ? [one.plain] : []));
}

/** A disk made of files of some blocks, rest, zeros and free space, in any order. */
const disks: fc.Arbitrary<Disk> = fc
  .record({
    runs: fc.array(
      fc.record({
        kind: fc.constantFrom('file', 'file', 'holey file', 'rest', 'zeros', 'free'),
        blocks: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 13, max: 150 })),
        inFile: fc.integer({ min: 0, max: 100 }),
      }),
      { minLength: 1, maxLength: 14 },
    ),
    seed: fc.nat(),
    isByContent: fc.boolean(),
    originBytes: fc.constantFrom(0, 512, 3 * KIB),
    tailBytes: fc.constantFrom(0, 512, 1024),
  })
  .map(({ runs, seed, isByContent, originBytes, tailBytes }) => {
    const parts: Buffer[] = [noise(`${seed} start`, originBytes)];
    const extents: { offsetBytes: number; lengthBytes: number }[] = [];
    const files: { at: number; length: number; inFile: number }[] = [];
    let at = originBytes;
    if (originBytes > 0) extents.push({ offsetBytes: 0, lengthBytes: originBytes });
    const add = (kind: string, length: number, inFile: number): void => {
      if (length === 0) return;
      const isZero = kind === 'zeros' || (kind === 'file' && inFile % 10 === 9);
      const bytes = isZero ? Buffer.alloc(length) : noise(`${seed} ${at}`, length);
      if (kind === 'holey file') {
        for (let i = inFile % 7; i * BLOCK < length; i += 1 + (i % 5)) {
          bytes.fill(0, i * BLOCK, (i + 1) * BLOCK);
        }
      }
      parts.push(bytes);
      const last = extents.at(-1);
      if (kind !== 'free') {
        if (last !== undefined && last.offsetBytes + last.lengthBytes === at) {
          last.lengthBytes += length;
        } else {
          extents.push({ offsetBytes: at, lengthBytes: length });
        }
      }
      // Filesystems with blocks of 1 KiB have files that go on at any of them.
      if (kind.endsWith('file')) files.push({ at, length, inFile: inFile * (seed % 4) * KIB });
      at += length;
    };
    for (const run of runs) add(run.kind, run.blocks * BLOCK, run.inFile);
    add('rest', tailBytes, 0);
    return {
      bytes: Buffer.concat(parts),
      extents,
      fileExtents: isByContent ? undefined : fileExtents(files),
      originBytes,
    };
  });

describe('the chunk rule', () => {
  test('cuts cover the disk once, in order; holes are zero or free, chunks are the bytes', () => {
    fc.assert(
      fc.property(disks, (disk) => {
        let at = 0;
        let wasHole = false;
        const kept = Buffer.alloc(disk.bytes.byteLength);
        for (const { offsetBytes, lengthBytes } of disk.extents) {
          disk.bytes.copy(kept, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
        }
        for (const one of cut(disk)) {
          assert.equal(one.offsetBytes, at);
          at += one.lengthBytes;
          assert.ok(one.lengthBytes > 0);
          const bytes = kept.subarray(one.offsetBytes, at);
          if (one.kind === 'hole') {
            assert.ok(!wasHole, 'two holes touch');
            assert.ok(bytes.equals(Buffer.alloc(one.lengthBytes)));
          } else {
            assert.ok(one.lengthBytes <= MAX);
            assert.ok(one.plain.equals(bytes));
            assert.ok(!one.plain.equals(Buffer.alloc(one.lengthBytes)), 'a chunk of zeros');
          }
          wasHole = one.kind === 'hole';
        }
        assert.equal(at, disk.bytes.byteLength);
      }),
    );
  });

  test('cuts do not depend on how the bytes come in', () => {
    const pushes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constant(300_000)), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(disks, pushes, (disk, lengths) => {
        assert.deepEqual(places(cut(disk, [7777, ...lengths])), places(cut(disk)));
      }),
      { numRuns: 40 },
    );
  });

  test('the cuts of a fixed disk never change: the rule stands in manifests', () => {
    const files = [
      { at: 0, length: 20 * BLOCK, inFile: 0 },
      ...Array.from({ length: 60 }, (_, i) => ({
        at: (40 + 3 * i) * BLOCK,
        length: 3 * BLOCK,
        inFile: 0,
      })),
      { at: 300 * BLOCK, length: 200 * BLOCK, inFile: 50 * BLOCK },
    ];
    const disk = {
      bytes: Buffer.concat([
        noise('a', 240 * BLOCK),
        Buffer.alloc(60 * BLOCK),
        noise('b', 200 * BLOCK),
        Buffer.alloc(700),
      ]),
      extents: [{ offsetBytes: 0, lengthBytes: 500 * BLOCK + 700 }],
      originBytes: 0,
    };
    const atFiles = cut({ ...disk, fileExtents: fileExtents(files) });
    const byContent = cut({ ...disk, fileExtents: undefined });
    assert.deepEqual(
      [atFiles, byContent].map((cuts) => [
        cuts.length,
        digestOf(Buffer.from(places(cuts).join('\n'))).slice(0, 16),
      ]),
      [
        [72, '1c62b5ab374766cf'],
        [37, '2acaced60d33c6bc'],
      ],
    );
  });
});

describe('a disk whose files are known', () => {
  const whole = (bytes: Buffer): { offsetBytes: number; lengthBytes: number }[] => [
    { offsetBytes: 0, lengthBytes: bytes.byteLength },
  ];

  test('a long file gives the same chunks wherever it lies and however it is fragmented', () => {
    const file = noise('file', 1_000 * KIB);
    const first = Buffer.concat([noise('before', 7 * BLOCK), file, noise('after', 30 * BLOCK)]);
    // The second time it lies in two pieces, apart, the later one first.
    const border = 512 * KIB;
    const second = Buffer.concat([
      noise('other', 90 * BLOCK),
      file.subarray(border),
      noise('between', 21 * BLOCK),
      file.subarray(0, border),
    ]);
    const firstCuts = cut({
      bytes: first,
      extents: whole(first),
      fileExtents: fileExtents([{ at: 7 * BLOCK, length: file.byteLength, inFile: 0 }]),
      originBytes: 0,
    });
    const laterBytes = file.byteLength - border;
    const secondCuts = cut({
      bytes: second,
      extents: whole(second),
      fileExtents: fileExtents([
        { at: 90 * BLOCK, length: laterBytes, inFile: border },
        { at: 111 * BLOCK + laterBytes, length: border, inFile: 0 },
      ]),
      originBytes: 0,
    });
    const known = new Set(chunksOf(firstCuts).map(digestOf));
    const shared = chunksOf(secondCuts).filter((plain) => known.has(digestOf(plain)));
    assert.deepEqual(
      shared.map((plain) => plain.byteLength / KIB),
      [256, 232, 64, 64, 128, 256],
    );
  });

  test('extents that touch on the disk and in the file are cut as one', () => {
    const bytes = noise('file', 100 * BLOCK);
    const disk = { bytes, extents: whole(bytes), originBytes: 0 };
    const inOne = fileExtents([{ at: 0, length: 100 * BLOCK, inFile: 0 }]);
    const inMany = fileExtents(
      Array.from({ length: 50 }, (_, i) => ({
        at: i * 2 * BLOCK,
        length: 2 * BLOCK,
        inFile: i * 2 * BLOCK,
      })),
    );
    assert.deepEqual(
      places(cut({ ...disk, fileExtents: inMany })),
      places(cut({ ...disk, fileExtents: inOne })),
    );
  });

  test('a changed short file changes the chunks around it only', () => {
    const files = Array.from({ length: 400 }, (_, i) => noise(`short ${i}`, (1 + (i % 4)) * BLOCK));
    const lay = (all: readonly Buffer[]): Disk => {
      let at = 0;
      const list = all.map((file) => {
        const one = { at, length: file.byteLength, inFile: 0 };
        at += file.byteLength;
        return one;
      });
      const bytes = Buffer.concat(all);
      return { bytes, extents: whole(bytes), fileExtents: fileExtents(list), originBytes: 0 };
    };
    const known = new Set(chunksOf(cut(lay(files))).map(digestOf));
    const edited = files.with(200, noise('longer', 6 * BLOCK)).toSpliced(300, 1);
    const fresh = chunksOf(cut(lay(edited))).filter((plain) => !known.has(digestOf(plain)));
    assert.ok(fresh.length >= 1 && fresh.length <= 4, `${fresh.length} new chunks`);
  });

  test('tables that belong to no file are cut at multiples of 64 KiB', () => {
    const bytes = noise('tables', 40 * BLOCK);
    const cuts = cut({
      bytes,
      extents: [{ offsetBytes: 3 * BLOCK, lengthBytes: 37 * BLOCK }],
      fileExtents: fileExtents([]),
      originBytes: BLOCK,
    });
    assert.deepEqual(places(cuts), [
      `hole 0+${3 * BLOCK}`,
      `chunk ${3 * BLOCK}+${14 * BLOCK}`,
      `chunk ${17 * BLOCK}+${16 * BLOCK}`,
      `chunk ${33 * BLOCK}+${7 * BLOCK}`,
    ]);
  });

  test('a file that grows or is patched in place keeps the chunks before and behind', () => {
    const file = noise('file', 600 * KIB);
    const digests = (bytes: Buffer): string[] => {
      const files = fileExtents([{ at: 0, length: bytes.byteLength, inFile: 0 }]);
      const disk = { bytes, extents: whole(bytes), fileExtents: files, originBytes: 0 };
      return chunksOf(cut(disk)).map(digestOf);
    };
    const known = digests(file);
    const grown = digests(Buffer.concat([file, noise('more', 2 * BLOCK)]));
    assert.deepEqual(grown.slice(0, -1), known.slice(0, -1));
    const patched = Buffer.from(file);
    noise('patch', 100).copy(patched, 100 * KIB);
    assert.deepEqual(digests(patched).toSpliced(1, 1), known.toSpliced(1, 1));
  });

  describe('zero blocks of files', () => {
    const anyStretches = fc.array(
      fc.record({
        dataBlocks: fc.integer({ min: 1, max: 90 }),
        zeroBlocks: fc.integer({ min: 1, max: 20 }),
      }),
      { minLength: 1, maxLength: 6 },
    );

    /** Data that begin at multiples of 64 KiB and give pieces of 12 KiB or more. */
    const longStretches = fc.array(
      fc
        .record({ steps: fc.nat(5), tailBlocks: fc.integer({ min: 3, max: 15 }), more: fc.nat(2) })
        .map(({ steps, tailBlocks, more }) => ({
          dataBlocks: 16 * steps + tailBlocks,
          zeroBlocks: 16 * more + 16 - tailBlocks,
        })),
      { minLength: 1, maxLength: 6 },
    );

    /** The pieces of a file between its zeros, and the file. */
    function holeyFile(list: readonly { dataBlocks: number; zeroBlocks: number }[]) {
      const parts: Buffer[] = [];
      const pieces: { at: number; length: number; inFile: number }[] = [];
      let at = 0;
      for (const { dataBlocks, zeroBlocks } of list) {
        const length = dataBlocks * BLOCK;
        pieces.push({ at, length, inFile: at });
        parts.push(noise(`piece ${at}`, length), Buffer.alloc(zeroBlocks * BLOCK));
        at += (dataBlocks + zeroBlocks) * BLOCK;
      }
      const bytes = Buffer.concat(parts);
      const files = fileExtents([{ at: 0, length: bytes.byteLength, inFile: 0 }]);
      return { bytes, fileExtents: files, pieces, originBytes: 0 };
    }

    test('are holes, and give the same cuts when they are holes of the image file', () => {
      fc.assert(
        fc.property(anyStretches, (list) => {
          const { pieces, ...file } = holeyFile(list);
          const data = pieces.map(({ at, length }) => ({ offsetBytes: at, lengthBytes: length }));
          assert.deepEqual(
            places(cut({ ...file, extents: whole(file.bytes) })),
            places(cut({ ...file, extents: data })),
          );
        }),
      );
    });

    test('give the same chunks when the file has holes in their place', () => {
      fc.assert(
        fc.property(longStretches, (list) => {
          const { pieces, ...file } = holeyFile(list);
          const stored = pieces.map(({ at, length }) => file.bytes.subarray(at, at + length));
          const bytes = Buffer.concat(stored);
          let at = 0;
          const moved = pieces.map((piece) => {
            const one = { ...piece, at };
            at += piece.length;
            return one;
          });
          const sparse = { bytes, fileExtents: fileExtents(moved), originBytes: 0 };
          assert.deepEqual(
            chunksOf(cut({ ...sparse, extents: whole(bytes) })).map(digestOf),
            chunksOf(cut({ ...file, extents: whole(file.bytes) })).map(digestOf),
          );
        }),
      );
    });

    test('are counted from the start of the file', () => {
      const bytes = noise('file', 20 * BLOCK);
      // Block 6 of the file, which begins 3 KiB before the disk's.
      bytes.fill(0, 6 * BLOCK - 3 * KIB, 7 * BLOCK - 3 * KIB);
      const length = bytes.byteLength;
      const cuts = cut({
        bytes,
        extents: whole(bytes),
        fileExtents: fileExtents([{ at: 0, length, inFile: 3 * KIB }]),
        originBytes: 0,
      });
      const endBytes = 7 * BLOCK - 3 * KIB;
      const step = 64 * KIB - 3 * KIB;
      assert.deepEqual(places(cuts), [
        `chunk 0+${endBytes - BLOCK}`,
        `hole ${endBytes - BLOCK}+${BLOCK}`,
        `chunk ${endBytes}+${step - endBytes}`,
        `chunk ${step}+${length - step}`,
      ]);
    });
  });
});

describe('a disk whose files are not known', () => {
  test('zeros become a hole from 64 KiB on', () => {
    for (const [zeroBlocks, holes] of [
      [15, 0],
      [16, 1],
    ] as const) {
      const bytes = Buffer.concat([
        noise('head', 5 * BLOCK),
        Buffer.alloc(zeroBlocks * BLOCK),
        noise('tail', 9 * BLOCK),
      ]);
      const extents = [{ offsetBytes: 0, lengthBytes: bytes.byteLength }];
      const cuts = cut({ bytes, extents, fileExtents: undefined, originBytes: 0 });
      assert.equal(cuts.filter((one) => one.kind === 'hole').length, holes);
    }
  });

  test('content that moved by whole blocks gives the same chunks', () => {
    const content = noise('content', 600 * BLOCK);
    const moved = Buffer.concat([noise('inserted', 5 * BLOCK), content]);
    const [known = [], cuts = []] = [content, moved].map((bytes) =>
      chunksOf(
        cut({
          bytes,
          extents: [{ offsetBytes: 0, lengthBytes: bytes.byteLength }],
          fileExtents: undefined,
          originBytes: 0,
        }),
      ).map(digestOf),
    );
    const shared = cuts.filter((digest) => known.includes(digest)).length;
    assert.ok(shared >= known.length - 3, `${shared} of ${known.length}`);
    assert.ok(known.length > 20 && known.length < 75, `${known.length} chunks of 64 KiB each`);
  });

  test('data after zeros gives the same chunks whatever stands before them', () => {
    const data = noise('data', 100 * BLOCK);
    const digests = [3, 40, 90].map((blocks) => {
      const bytes = Buffer.concat([
        noise('before', blocks * BLOCK),
        Buffer.alloc(100 * BLOCK),
        data,
      ]);
      const cuts = cut({
        bytes,
        extents: [{ offsetBytes: 0, lengthBytes: bytes.byteLength }],
        fileExtents: undefined,
        originBytes: 0,
      });
      const dataStart = (blocks + 100) * BLOCK;
      assert.ok(cuts.some((one) => one.kind === 'hole' && one.lengthBytes === 100 * BLOCK));
      return cuts.flatMap((one) =>
        one.kind === 'chunk' && one.offsetBytes >= dataStart ? [digestOf(one.plain)] : [],
      );
    });
    assert.deepEqual(digests[0], digests[1]);
    assert.deepEqual(digests[0], digests[2]);
  });
});

test('bytes that are not those of the extents are a bug', () => {
  const input = {
    sizeBytes: 100,
    extents: [{ offsetBytes: 0, lengthBytes: 50 }],
    fileExtents: undefined,
    originBytes: 0,
  };
  const short = new ChunkCutter(input);
  assert.deepEqual([...short.push(Buffer.alloc(49, 1))], []);
  assert.throws(() => [...short.finish()], /not those of the extents/);
  const long = new ChunkCutter(input);
  assert.equal([...long.push(Buffer.alloc(51, 1))].length, 1);
  assert.throws(() => [...long.finish()], /not those of the extents/);
});
