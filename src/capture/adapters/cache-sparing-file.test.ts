import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { ALIGNMENT_BYTES, alignedMemory, KIB, MIB } from '../../base/index.ts';
import { CacheSparingFile } from './cache-sparing-file.ts';
import { addressOf, residentBytes } from './libc.ts';

const SIZE_BYTES = 4 * MIB + 300;

const aligned = (lengthBytes: number): Buffer =>
  alignedMemory(lengthBytes, addressOf, (length) => Buffer.allocUnsafeSlow(length));

/** Writes what is dirty, and empties the page cache of a file. */
function chill(path: string): void {
  execFileSync('sync', [path]);
  execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
}

async function residentOf(path: string): Promise<number> {
  await using file = await open(path);
  return residentBytes(file.fd, 0, SIZE_BYTES);
}

const folder = mkdtempSync(join(tmpdir(), 'ingot-sparing-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'file');
const content = randomBytes(SIZE_BYTES);
writeFileSync(path, content);
chill(path);
const skip = (await residentOf(path)) > 0 ? `the cache of ${folder} cannot be emptied` : false;

describe('a file that is read past the page cache where it is not in it', () => {
  it('leaves the cache as it was', { skip }, async () => {
    chill(path);
    await using file = await open(path);
    await using sparing = await CacheSparingFile.open(file);
    const target = aligned(MIB);
    assert.equal(await sparing.readInto(target, MIB), MIB);
    assert.ok(target.equals(content.subarray(MIB, 2 * MIB)));
    assert.equal(await residentOf(path), 0);
  });

  it('gives what was written a moment ago, though the disk does not have it', {
    skip,
  }, async () => {
    const other = join(folder, 'written');
    writeFileSync(other, content);
    chill(other);
    await using writer = await open(other, 'r+');
    const news = randomBytes(8 * KIB);
    await writer.write(news, 0, news.length, 512 * KIB);
    await using file = await open(other);
    await using sparing = await CacheSparingFile.open(file);
    const target = aligned(MIB);
    assert.equal(await sparing.readInto(target, 0), MIB);
    assert.ok(target.subarray(512 * KIB, 520 * KIB).equals(news));
  });

  it('gives the same bytes warm and cold, at any place and length', { skip }, async () => {
    const offset = fc.oneof(
      fc.nat(SIZE_BYTES),
      fc.nat(Math.floor(SIZE_BYTES / ALIGNMENT_BYTES)).map((block) => block * ALIGNMENT_BYTES),
    );
    const length = fc.constantFrom(1, 511, 4096, 4097, 64 * KIB, MIB, 2 * MIB);
    await using file = await open(path);
    await using sparing = await CacheSparingFile.open(file);
    await fc.assert(
      fc.asyncProperty(
        ...[offset, length, fc.nat(1), fc.boolean()],
        async (at, lengthBytes, shift, isCold) => {
          if (isCold) chill(path);
          const target = aligned(lengthBytes + shift).subarray(shift);
          const readBytes = await sparing.readInto(target, at);
          const wanted = content.subarray(at, at + lengthBytes);
          assert.ok(readBytes > 0 || wanted.length === 0);
          assert.ok(target.subarray(0, readBytes).equals(wanted.subarray(0, readBytes)));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('ends where the file ends', async () => {
    await using file = await open(path);
    await using sparing = await CacheSparingFile.open(file);
    assert.equal(await sparing.readInto(aligned(4096), 5 * MIB), 0);
  });

  it('reads what only memory has', {
    skip: existsSync('/dev/shm') ? false : 'there is no /dev/shm',
  }, async () => {
    const inMemory = mkdtempSync('/dev/shm/ingot-sparing-');
    try {
      writeFileSync(join(inMemory, 'file'), content);
      await using file = await open(join(inMemory, 'file'));
      await using sparing = await CacheSparingFile.open(file);
      const target = aligned(MIB);
      assert.equal(await sparing.readInto(target, 0), MIB);
      assert.ok(target.equals(content.subarray(0, MIB)));
    } finally {
      rmSync(inMemory, { recursive: true });
    }
  });
});
