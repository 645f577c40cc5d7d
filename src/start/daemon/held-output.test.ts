import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { isFailure, MIB } from '../../base/index.ts';
import { takesDirectWrites } from '../../capture/adapters/direct-writer.ts';
import { reserveSpace } from '../../capture/adapters/libc.ts';
import { sendDescriptors } from '../../keep/adapters/descriptor-socket.ts';
import { openSocketHandover } from '../../keep/adapters/socket-handover.ts';
import type { HandedOutput } from '../../keep/index.ts';
import { heldOutput } from './held-output.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-handed-output-'));
const dataFolder = join(folder, 'data');
mkdirSync(dataFolder);
after(() => rmSync(folder, { recursive: true }));
const skip = (await takesDirectWrites(folder)) ? false : `${tmpdir()} takes no direct writes`;

const path = join(folder, 'x.mender.partial');
const { O_WRONLY, O_RDONLY, O_RDWR, O_DIRECT, O_APPEND } = constants;
const openCount = (): number => readdirSync('/proc/self/fd').length;

/** Leaves files that are open in these ways, and takes them as an output. */
async function handed(
  ways: readonly (readonly [flags: number, path: string])[],
): Promise<HandedOutput> {
  using handover = openSocketHandover('key', {
    holdOutput: (left, name) => heldOutput(left, { name, dataFolder }),
    isAnsweredByKernel: () => true,
  });
  const descriptors: number[] = [];
  try {
    for (const [flags, file] of ways) descriptors.push(openSync(file, flags));
    assert.ok(sendDescriptors(handover.socket, 'key', descriptors));
  } finally {
    for (const fd of descriptors) closeSync(fd);
  }
  return await handover.takeOutput('x.mender');
}

const asItShouldBe = [
  [O_RDWR, path],
  [O_WRONLY | O_DIRECT, path],
] as const;

describe('an output that was handed over', { skip }, () => {
  let before = 0;
  beforeEach(async () => {
    rmSync(path, { force: true });
    writeFileSync(path, 'the head');
    const fd = openSync(path, 'r+');
    await reserveSpace(fd, 8 * MIB);
    closeSync(fd);
    before = openCount();
  });
  afterEach(() => assert.equal(openCount(), before, 'descriptors that stayed open'));

  test('gets its bytes at their place, and keeps what stood around them', async () => {
    const bytes = randomBytes(5 * MIB + 77);
    {
      await using output = await handed(asItShouldBe);
      assert.equal(output.sizeBytes, 8 * MIB);
      for (let at = 0; at < bytes.length; at += 700_001) {
        await output.write(bytes.subarray(at, at + 700_001), 8 + at);
      }
      await output.flush();
    }
    const found = readFileSync(path);
    assert.equal(found.toString('latin1', 0, 8), 'the head');
    assert.ok(found.subarray(8, 8 + bytes.length).equals(bytes));
    assert.ok(found.subarray(8 + bytes.length).equals(Buffer.alloc(3 * MIB - 77 - 8)));
  });

  test('has no more room than there is space kept for', async () => {
    rmSync(path);
    writeFileSync(path, '');
    truncateSync(path, 8 * MIB);
    await using output = await handed(asItShouldBe);
    assert.ok(output.sizeBytes < 4096, `${output.sizeBytes} bytes of a hole`);
  });

  test('that cannot take a byte says whose it is', async () => {
    await using output = await handed(asItShouldBe);
    // Beyond what any file may have.
    await output.write(Buffer.alloc(4096), Number.MAX_SAFE_INTEGER - 4095);
    await assert.rejects(output.flush(), (thrown) => {
      assert.match(String(thrown), /x\.mender/);
      return isFailure(thrown, 'target-full') || isFailure(thrown, 'target-unwritable');
    });
  });

  const other = join(folder, 'other');
  const ofLibrary = join(dataFolder, 'pack');
  const inMemory = `/dev/shm/ingot-handed-output-${process.pid}`;
  const refusals: Readonly<
    Record<string, readonly [why: RegExp, ways: readonly (readonly [number, string])[]]>
  > = {
    'one descriptor': [/not handed over twice/, [[O_WRONLY | O_DIRECT, path]]],
    'two files': [
      /two files/,
      [
        [O_WRONLY, path],
        [O_WRONLY | O_DIRECT, other],
      ],
    ],
    'a file open for reading': [
      /not open for writing/,
      [
        [O_RDONLY, path],
        [O_WRONLY | O_DIRECT, path],
      ],
    ],
    'a file open for reading past the cache': [
      /not open for writing/,
      [
        [O_WRONLY, path],
        [O_RDONLY | O_DIRECT, path],
      ],
    ],
    'a file open for appending': [
      /for appending/,
      [
        [O_WRONLY | O_APPEND, path],
        [O_WRONLY | O_DIRECT, path],
      ],
    ],
    'a file open through the cache only': [
      /O_DIRECT/,
      [
        [O_WRONLY, path],
        [O_WRONLY, path],
      ],
    ],
    'a folder': [
      /no regular file/,
      [
        [O_RDONLY, folder],
        [O_RDONLY, folder],
      ],
    ],
    'a device': [
      /no regular file/,
      [
        [O_WRONLY, '/dev/null'],
        [O_WRONLY, '/dev/null'],
      ],
    ],
    'a file of the library': [
      /file of the library/,
      [
        [O_WRONLY, ofLibrary],
        [O_WRONLY | O_DIRECT, ofLibrary],
      ],
    ],
  };
  for (const [what, [why, ways]] of Object.entries(refusals)) {
    test(`is not ${what}`, async () => {
      for (const file of [other, ofLibrary]) writeFileSync(file, 'theirs');
      await assert.rejects(handed(ways), (thrown) => {
        assert.match(String(thrown), why);
        return isFailure(thrown, 'not-allowed');
      });
      assert.equal(readFileSync(ofLibrary, 'utf8'), 'theirs');
    });
  }

  test('is not a file with set-id bits, which a write of root would leave', async () => {
    for (const mode of [0o4755, 0o2755]) {
      chmodSync(path, mode);
      await assert.rejects(handed(asItShouldBe), /not-allowed|set-id bits/);
    }
  });

  test('is not on a filesystem that has no way past the cache', {
    skip:
      existsSync('/dev/shm') && statfsSync('/dev/shm').type === 0x01021994
        ? false
        : '/dev/shm is no tmpfs',
  }, async () => {
    writeFileSync(inMemory, 'bytes');
    try {
      const ways = [O_WRONLY, O_WRONLY].map((flags) => [flags, inMemory] as const);
      await assert.rejects(handed(ways), /its filesystem does not suit/);
    } finally {
      rmSync(inMemory);
    }
  });
});
