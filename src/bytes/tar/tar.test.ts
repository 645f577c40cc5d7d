import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { inPieces } from '../../../test/support/small-artifact.ts';
import { isFailure } from '../../base/index.ts';
import { ByteStream } from '../byte-stream.ts';
import { encodeTar, encodeTarHeader, MAX_OCTAL_SIZE, TAR_END } from './tar-header.ts';
import { readTar } from './tar-reader.ts';

interface ReadFile {
  name: string;
  mode: number;
  body: string;
}

async function readAll(
  bytes: Uint8Array,
  {
    end = 'required',
    pieceBytes = 1000,
  }: { end?: 'required' | 'optional'; pieceBytes?: number } = {},
): Promise<ReadFile[]> {
  const files: ReadFile[] = [];
  const stream = new ByteStream(inPieces(bytes, pieceBytes));
  for await (const entry of readTar(stream, { archive: 'x.tar', end })) {
    const pieces: Buffer[] = [];
    for await (const piece of entry.body()) pieces.push(Buffer.from(piece));
    files.push({
      name: entry.name,
      mode: entry.mode,
      body: Buffer.concat(pieces).toString('latin1'),
    });
  }
  return files;
}

const name = fc.oneof(
  fc.stringMatching(/^[a-z0-9._-]{1,120}$/),
  fc.stringMatching(/^[a-z]{1,60}\/[a-z]{1,90}$/),
  fc.stringMatching(/^[a-zäß€]{1,60}$/),
);
const file = fc.record({
  name,
  mode: fc.integer({ min: 0, max: 0o7777 }),
  body: fc.uint8Array({ maxLength: 1500 }),
});

describe('tar', () => {
  test('what is encoded is read back, whatever the names and pieces are', async () => {
    const files = fc.uniqueArray(file, { maxLength: 5, selector: (f) => f.name });
    await fc.assert(
      fc.asyncProperty(files, fc.integer({ min: 1, max: 2000 }), async (written, pieceBytes) => {
        const read = await readAll(encodeTar(written), { pieceBytes });
        assert.deepEqual(
          read,
          written.map((f) => ({ ...f, body: Buffer.from(f.body).toString('latin1') })),
        );
      }),
    );
  });

  test('a header has the bytes of a USTAR header without time and owner', () => {
    const header = encodeTarHeader({ name: 'version', mode: 0o600, sizeBytes: 31 });
    assert.equal(header.length, 512);
    assert.equal(
      header.toString('latin1').replaceAll('\0', '~').replaceAll(/~{8,}/g, '…'),
      'version…0000600~0000000~0000000~00000000037~00000000000~010605~ 0…ustar~00…0000000~0000000…',
    );
  });

  test('a size of 8 GiB stands in a PAX header, one byte less does not', async () => {
    const small = encodeTarHeader({ name: 'a/b', mode: 0o600, sizeBytes: MAX_OCTAL_SIZE });
    assert.equal(small.length, 512);
    const large = encodeTarHeader({ name: 'a/b', mode: 0o600, sizeBytes: MAX_OCTAL_SIZE + 1 });
    assert.equal(large.length, 1536);
    assert.equal(large.toString('latin1', 0, 16), 'a/PaxHeaders.0/b');
    assert.equal(large.toString('latin1', 512, 531), '19 size=8589934592\n');
    assert.equal(large.toString('latin1', 1024 + 124, 1024 + 136), '00000000000\0');
    const entries = readTar(new ByteStream(inPieces(large)), { archive: 'x', end: 'required' });
    const first = await entries.next();
    assert.equal(first.value?.sizeBytes, MAX_OCTAL_SIZE + 1);
  });

  test('an archive that ends anywhere before its last byte is refused with its name', async () => {
    const whole = encodeTar([
      { name: 'one', mode: 0o644, body: Buffer.alloc(700, 1) },
      { name: 'two', mode: 0o644, body: Buffer.alloc(512, 2) },
    ]);
    for (let length = 0; length < whole.length; length += 256) {
      await assert.rejects(
        readAll(whole.subarray(0, length)),
        (thrown: unknown) =>
          isFailure(thrown, 'artifact-malformed') && thrown.message.includes('x.tar'),
        `cut after ${length} bytes`,
      );
    }
  });

  test('missing zero blocks are tolerated only where the caller says so', async () => {
    const whole = encodeTar([{ name: 'one', mode: 0o644, body: Buffer.alloc(512) }]);
    const bare = whole.subarray(0, whole.length - TAR_END.length);
    assert.equal((await readAll(bare, { end: 'optional' })).length, 1);
    await assert.rejects(readAll(bare));
  });

  test('one changed byte in a header is noticed', async () => {
    const whole = encodeTar([{ name: 'one', mode: 0o644, body: Buffer.alloc(0) }]);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 511 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, change) => {
          const broken = Buffer.from(whole);
          broken[at] = (broken[at] ?? 0) ^ change;
          // Blanks and NULs around the checksum itself mean nothing.
          const stored = (bytes: Buffer): string => bytes.toString('latin1', 148, 154);
          fc.pre(stored(broken) !== stored(whole) || at < 148 || at > 155);
          await assert.rejects(readAll(broken), /checksum/);
        },
      ),
    );
  });

  test('hostile headers are refused without an allocation of their size', async () => {
    const pax = (records: string): Buffer => {
      const header = encodeTarHeader({ name: 'x', mode: 0, sizeBytes: records.length });
      header.write('x', 156, 'latin1');
      return Buffer.concat([fixChecksum(header), Buffer.from(records.padEnd(512, '\0'))]);
    };
    const hugeMeta = encodeTarHeader({ name: 'x', mode: 0, sizeBytes: MAX_OCTAL_SIZE });
    hugeMeta.write('L', 156, 'latin1');
    const negative = encodeTarHeader({ name: 'x', mode: 0, sizeBytes: 0 });
    negative.fill(0xff, 124, 136);
    const one = encodeTarHeader({ name: 'one', mode: 0, sizeBytes: 0 });
    const hostile: Record<string, Buffer> = {
      'an extended header of 8 GiB': fixChecksum(hugeMeta),
      'a negative size': fixChecksum(negative),
      'a PAX record without a length': pax('size=5\n'),
      'a PAX record beyond its header': pax('99 size=5\n'),
      'a PAX size that is no number': pax('11 size=x1\n'),
      'a PAX size beyond 2^53': pax('26 size=99999999999999999\n'),
      'a sparse file': pax('22 GNU.sparse.major=1\n'),
      'extended headers without an end': Buffer.concat(Array(20).fill(pax('10 a=bcde\n'))),
      'a PAX header that nothing follows': Buffer.concat([pax('10 a=bcde\n'), TAR_END]),
    };
    for (const [what, bytes] of Object.entries(hostile)) {
      await assert.rejects(
        readAll(Buffer.concat([bytes, one, TAR_END])),
        (thrown: unknown) => isFailure(thrown, 'artifact-malformed'),
        what,
      );
    }
  });

  test('long names of GNU tar and folders are read', async () => {
    const long = 'n'.repeat(150);
    const meta = encodeTarHeader({ name: '././@LongLink', mode: 0, sizeBytes: 151 });
    meta.write('L', 156, 'latin1');
    const folder = encodeTarHeader({ name: 'folder/', mode: 0o755, sizeBytes: 0 });
    folder.write('5', 156, 'latin1');
    const archive = Buffer.concat([
      fixChecksum(meta),
      Buffer.from(`${long}\0`.padEnd(512, '\0')),
      encodeTarHeader({ name: 'n'.repeat(100), mode: 0o644, sizeBytes: 0 }),
      fixChecksum(folder),
      TAR_END,
    ]);
    assert.deepEqual(
      (await readAll(archive)).map((f) => f.name),
      [long, 'folder/'],
    );
  });
});

function fixChecksum(header: Buffer): Buffer {
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}
