import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, crc32, deflateRawSync } from 'node:zlib';
import { inPieces, smallHeader } from '../../test/support/small-artifact.ts';
import { digestOf, type FileDigest, isFailure, MIB } from '../base/index.ts';
import { GZIP_HEADER, gzipTrailer, MAX_CHUNK_BYTES, readArtifact } from '../bytes/index.ts';
import type { StreamCompressor } from '../capture/index.ts';
import type { ArtifactPayload, CodedPiece } from './artifact-data.ts';
import { type ArtifactTarget, type WriteArtifactRequest, writeArtifact } from './artifact-write.ts';
import { makeZeros } from './known-zeros.ts';
import { ReusedBuffers } from './reused-buffers.ts';

const gzip: StreamCompressor = {
  name: 'gzip (test)',
  pieceBytes: MAX_CHUNK_BYTES,
  piecesInFlight: 3,
  header: GZIP_HEADER,
  encode: (plain) =>
    Promise.resolve(deflateRawSync(plain, { level: 1, finishFlush: constants.Z_SYNC_FLUSH })),
  crc32: (bytes) => crc32(bytes),
  trailer: (plain) => gzipTrailer(plain.crc32, plain.lengthBytes),
};

class MemoryTarget implements ArtifactTarget {
  bytes: Buffer = Buffer.alloc(0);
  readonly patch: ArtifactTarget['patch'];

  constructor({ canPatch }: { readonly canPatch: boolean }) {
    this.patch = canPatch
      ? (bytes) => {
          this.bytes.set(bytes, 0);
          return Promise.resolve();
        }
      : undefined;
  }

  write(bytes: Uint8Array): Promise<void> {
    this.bytes = Buffer.concat([this.bytes, bytes]);
    return Promise.resolve();
  }
}

/** A payload in memory that counts how often it is opened. */
function payloadOf(body: Buffer, changes: Partial<ArtifactPayload> = {}) {
  const opened = { times: 0 };
  const payload: ArtifactPayload = {
    name: 'rootfs.ext4',
    mode: 0o644,
    isAugmented: false,
    sizeBytes: body.length,
    open: async function* () {
      opened.times += 1;
      for await (const piece of inPieces(body, 100_000)) yield Buffer.from(piece);
    },
    ...changes,
  };
  return { payload, opened };
}

/** The pieces of a file as threads code them, zeros apart. */
async function* codedPieces(plain: Buffer): AsyncGenerator<CodedPiece, void, undefined> {
  for (let at = 0; at < plain.length; at += MAX_CHUNK_BYTES) {
    const piece = plain.subarray(at, at + MAX_CHUNK_BYTES);
    const isZeros = piece.equals(Buffer.alloc(piece.length));
    const own = isZeros ? undefined : Buffer.from(await gzip.encode(piece));
    yield { own, crc32: crc32(piece), plainBytes: piece.length };
  }
}

/** Coded pieces, and what they are together. */
function codedApart(plain: Buffer): NonNullable<ArtifactPayload['codeApart']> {
  return async function* ({ digest = digestOf(plain), onBytes }) {
    yield* codedPieces(plain);
    onBytes(plain.length);
    return { digest, crc32: crc32(plain), sizeBytes: plain.length };
  };
}

function requestOf(
  payload: ArtifactPayload,
  changes: Partial<WriteArtifactRequest> = {},
): WriteArtifactRequest {
  return {
    compression: 'gzip',
    compressor: gzip,
    payloads: [payload],
    header: ([digest]) => {
      const header = smallHeader();
      const provides = new Map([['rootfs-image.checksum', digest ?? '']]);
      const typeInfo = { ...header.payload.typeInfo, provides };
      return { ...header, payload: { ...header.payload, typeInfo } };
    },
    ...changes,
  };
}

const body = Buffer.concat([
  createHash('sha512').update('x').digest(),
  Buffer.alloc(3 * MAX_CHUNK_BYTES),
  Buffer.from('the end'.repeat(60_000)),
]);

describe('writing an artifact', () => {
  test('gives the same bytes whether the target can be patched or not', async () => {
    for (const compression of ['gzip', 'none'] as const) {
      const bytes: Buffer[] = [];
      for (const canPatch of [true, false]) {
        for (const sizeBytes of [body.length, undefined]) {
          const target = new MemoryTarget({ canPatch });
          const { payload } = payloadOf(body, { sizeBytes });
          const written = await writeArtifact(requestOf(payload, { compression }), target);
          assert.equal(written.sizeBytes, target.bytes.length);
          bytes.push(target.bytes);
        }
      }
      const [first, ...others] = bytes;
      assert.ok(first !== undefined);
      for (const other of others) assert.ok(other.equals(first), compression);
      const artifact = await readArtifact(inPieces(first));
      assert.equal(artifact.files[0]?.sizeBytes, body.length);
      assert.equal(
        artifact.payload.typeInfo.provides.get('rootfs-image.checksum'),
        createHash('sha256').update(body).digest('hex'),
      );
    }
  });

  test('reads a payload once where its size is known and the target can be patched', async () => {
    const { payload, opened } = payloadOf(body);
    await writeArtifact(requestOf(payload), new MemoryTarget({ canPatch: true }));
    assert.equal(opened.times, 1);
  });

  test('fails when a payload gives more or fewer bytes than it promised', async () => {
    for (const sizeBytes of [body.length - 1, body.length + 1]) {
      const { payload } = payloadOf(body, { sizeBytes });
      await assert.rejects(
        writeArtifact(requestOf(payload), new MemoryTarget({ canPatch: true })),
        (thrown) => isFailure(thrown, 'source-size-mismatch'),
      );
    }
  });

  test('fails when a payload changes between two readings', async () => {
    let times = 0;
    const { payload } = payloadOf(body, {
      open: async function* () {
        times += 1;
        const copy = Buffer.from(body);
        copy[5] = times;
        yield copy;
      },
    });
    await assert.rejects(
      writeArtifact(
        requestOf(payload, { compression: 'none', compressor: undefined }),
        new MemoryTarget({ canPatch: false }),
      ),
      (thrown) => isFailure(thrown, 'content-changed'),
    );
  });

  test('compares what it read with what the digest was computed of', async () => {
    const large = Buffer.concat([body, Buffer.alloc(16 * MIB, 'large')]);
    const right = { digest: digestOf(large), crc32: crc32(large), sizeBytes: large.length };
    const write = async (
      found: FileDigest,
      canPatch: boolean,
      codeApart?: ArtifactPayload['codeApart'],
    ): Promise<Buffer> => {
      let stopped: AbortSignal | undefined;
      const { payload } = payloadOf(large, {
        digestApart: async ({ signal, onBytes }) => {
          stopped = signal;
          onBytes(large.length);
          return found;
        },
        ...(codeApart === undefined ? {} : { codeApart }),
      });
      const target = new MemoryTarget({ canPatch });
      try {
        await writeArtifact(requestOf(payload), target);
      } finally {
        assert.ok(!canPatch || stopped?.aborted === true);
      }
      return target.bytes;
    };
    const plain = new MemoryTarget({ canPatch: true });
    await writeArtifact(requestOf(payloadOf(large).payload), plain);
    for (const [canPatch, codeApart] of [
      [true, undefined],
      [false, undefined],
      [false, codedApart(large)],
    ] as const) {
      assert.ok((await write(right, canPatch, codeApart)).equals(plain.bytes));
      for (const wrong of [
        { ...right, crc32: right.crc32 ^ 1 },
        { ...right, sizeBytes: right.sizeBytes - 1 },
      ]) {
        await assert.rejects(
          write(wrong, canPatch, codeApart),
          (thrown) =>
            isFailure(thrown, 'content-changed') || isFailure(thrown, 'source-size-mismatch'),
        );
      }
    }
  });

  test('takes the digest from those who code, where both come from one reading', async () => {
    const large = Buffer.concat([body, Buffer.alloc(16 * MIB, 'large')]);
    const plain = new MemoryTarget({ canPatch: true });
    await writeArtifact(requestOf(payloadOf(large).payload), plain);
    const { payload, opened } = payloadOf(large, {
      digestApart: () => Promise.reject(new Error('nobody needs it')),
      codeApart: codedApart(large),
    });
    const target = new MemoryTarget({ canPatch: true });
    const { digests } = await writeArtifact(requestOf(payload), target);
    assert.deepEqual(digests, [digestOf(large)]);
    assert.ok(target.bytes.equals(plain.bytes));
    assert.equal(opened.times, 0);
  });

  test('takes no file that was coded elsewhere with another length or content', async () => {
    const large = Buffer.alloc(17 * MIB, 'large');
    const found = { digest: digestOf(large), crc32: crc32(large), sizeBytes: large.length };
    for (const [coded, code] of [
      [large.subarray(0, -1), 'content-changed'],
      [Buffer.concat([large, Buffer.from('x')]), 'source-size-mismatch'],
      [Buffer.from(large).fill('other', 5 * MIB, 6 * MIB), 'content-changed'],
    ] as const) {
      const { payload, opened } = payloadOf(large, {
        digestApart: () => Promise.resolve(found),
        codeApart: codedApart(coded),
      });
      await assert.rejects(
        writeArtifact(requestOf(payload), new MemoryTarget({ canPatch: false })),
        (thrown) => isFailure(thrown, code),
      );
      assert.equal(opened.times, 0);
    }
  });

  test('codes what was read, however slow the engine is, where zeros follow', async () => {
    const windowBytes = 1024 * 1024;
    const windows = 24;
    for (const isHole of [true, false]) {
      const plain = Buffer.alloc(windows * windowBytes);
      for (let at = 0; at < plain.length; at += 8 * windowBytes) {
        plain.fill(`window at ${at}`, at, at + 700_000);
      }
      // As files are read: memory is used again, and holes are known zeros.
      const { payload } = payloadOf(plain, {
        open: async function* ({ keptBytes, allocate }) {
          const buffers = new ReusedBuffers({ bufferBytes: windowBytes, keptBytes, allocate });
          const zeros = makeZeros(allocate, windowBytes);
          for (let at = 0; at < plain.length; at += windowBytes) {
            if (isHole && at % (8 * windowBytes) !== 0) {
              yield zeros;
              continue;
            }
            const buffer = buffers.take();
            plain.copy(buffer, 0, at, at + windowBytes);
            buffers.gaveOut(buffer, windowBytes);
            yield buffer;
          }
        },
      });
      let turns = 0;
      const slow: StreamCompressor = {
        ...gzip,
        encode: async (bytes) => {
          // The last one before the zeros is still coded when those before it are done.
          turns += 50;
          for (let turn = turns; turn > 0; turn--) await new Promise(setImmediate);
          return await gzip.encode(bytes);
        },
      };
      const target = new MemoryTarget({ canPatch: true });
      await writeArtifact(requestOf(payload, { compressor: slow }), target);
      // Reading compares the payload with its digest.
      const artifact = await readArtifact(inPieces(target.bytes));
      assert.equal(artifact.files[0]?.digest, digestOf(plain));
    }
  });

  test('fails when coding fails, and leaves no piece under way', async () => {
    let underWay = 0;
    const failing: StreamCompressor = {
      ...gzip,
      encode: async (plain) => {
        underWay += 1;
        try {
          await Promise.resolve();
          if (plain.length < MAX_CHUNK_BYTES) throw new Error('the engine broke');
          return await gzip.encode(plain);
        } finally {
          underWay -= 1;
        }
      },
    };
    const { payload } = payloadOf(body);
    await assert.rejects(
      writeArtifact(
        requestOf(payload, { compressor: failing }),
        new MemoryTarget({ canPatch: true }),
      ),
      /the engine broke/,
    );
    assert.equal(underWay, 0);
  });

  test('stops when it is cancelled', async () => {
    const cancel = new AbortController();
    const { payload } = payloadOf(body, {
      open: async function* () {
        yield body;
        cancel.abort(new Error('enough'));
        yield await Promise.resolve(body);
      },
    });
    await assert.rejects(
      writeArtifact(
        requestOf(payload, { signal: cancel.signal }),
        new MemoryTarget({ canPatch: true }),
      ),
      /enough/,
    );
  });

  test('never makes an inner archive of a multiple of 64 KiB', async () => {
    // 512 of header and 1024 of end leave this much for a length that clients in C++ misread.
    const { payload } = payloadOf(Buffer.alloc(65_536 - 1536, 1));
    const target = new MemoryTarget({ canPatch: true });
    await writeArtifact(requestOf(payload, { compression: 'none', compressor: undefined }), target);
    const { entries } = await readArtifact(inPieces(target.bytes));
    assert.equal(entries.at(-1)?.sizeBytes, 65_536 + 512);
  });
});
