import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isFailure, systemClock } from '../../base/index.ts';
import { type Extent, mergeExtents } from '../../bytes/index.ts';
import { ProcessChannel } from '../adapters/ssh-channel.ts';
import { ByteQueue } from './byte-queue.ts';
import { DeviceSession } from './device-session.ts';
import { Mirror } from './mirror.ts';
import { LARGE_BATCH_BYTES } from './plan-batches.ts';
import type { MirrorSpool } from './spool-records.ts';

const SCRIPT = join(import.meta.dirname, '../adapters/device-script.sh');
const SIZE_BYTES = 9 * 1024 * 1024 + 1536;

/** A spool in memory. @param left what an earlier run left in it */
function memorySpool(left: Buffer = Buffer.alloc(0)): MirrorSpool & { all(): Buffer } {
  let all = left;
  return {
    sizeBytes: left.length,
    all: () => all,
    truncate: async (sizeBytes) => {
      all = all.subarray(0, sizeBytes);
    },
    append: async (bytes) => {
      all = Buffer.concat([all, bytes]);
    },
    read: async (offsetBytes, lengthBytes) =>
      Buffer.from(all.subarray(offsetBytes, offsetBytes + lengthBytes)),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** A sector of the disk, as a log tells it. */
function blockAt(offsetBytes: number): Extent {
  return { offsetBytes: offsetBytes - (offsetBytes % 512), lengthBytes: 512 };
}

/** Opens a session of the device script, here, on a file. */
async function openSession(disk: string): Promise<DeviceSession> {
  const child = spawn('sh', [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
  const channel = new ProcessChannel('here', child);
  const session = new DeviceSession(channel, new ByteQueue(channel.output), systemClock);
  await session.greeted();
  await session.open(disk);
  return session;
}

const extent = fc.record({
  offsetBytes: fc.integer({ min: 0, max: SIZE_BYTES - 1 }),
  lengthBytes: fc.constantFrom(1, 1024, 4096, 70_000, 300_000, 3_000_000),
});
const extents = fc.array(extent, { maxLength: 8 }).map((some) =>
  mergeExtents(
    some.map(({ offsetBytes, lengthBytes }) => ({
      offsetBytes,
      lengthBytes: Math.min(lengthBytes, SIZE_BYTES - offsetBytes),
    })),
  ),
);

for (const { codec, tool, log } of [
  { codec: 'zstd', tool: 'b2sum', log: 'none' },
  { codec: 'none', tool: 'sha256sum', log: 'none' },
  { codec: 'zstd', tool: 'b2sum', log: 'whole' },
  { codec: 'zstd', tool: 'sha256sum', log: 'lost' },
] as const) {
  test(`a mirror over ${codec} and ${tool} with a log that is ${log} has what the disk has after it was brought up to date`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ingot-mirror-'));
    try {
      const disk = join(folder, 'disk');
      const content = randomBytes(SIZE_BYTES);
      writeFileSync(disk, content);
      await using session = await openSession(disk);
      const scene = fc.record({
        live: extents,
        frozen: extents,
        changes: fc.array(fc.integer({ min: 0, max: SIZE_BYTES - 1 }), { maxLength: 3 }),
        liveBatchBytes: fc.constantFrom(undefined, 64 * 1024, LARGE_BATCH_BYTES),
      });
      await fc.assert(
        fc.asyncProperty(scene, async ({ live, frozen, changes, liveBatchBytes }) => {
          const setup = { session, sizeBytes: SIZE_BYTES, codec, tool, spool: memorySpool() };
          const told = log === 'lost' ? undefined : changes.map(blockAt);
          const tell = log === 'none' ? {} : { changes: async () => told };
          const mirror = new Mirror({ ...setup, ...tell, onAnswer: () => undefined });
          await mirror.recall();
          await mirror.complete(live, liveBatchBytes);
          for (const at of changes) content[at] = (content[at] ?? 0) ^ 0xff;
          writeFileSync(disk, content);
          await mirror.refresh();
          await mirror.complete(frozen);
          const reads = [...live, ...frozen].map(async ({ offsetBytes, lengthBytes }: Extent) => {
            const bytes = Buffer.alloc(lengthBytes);
            const isHere = await mirror.readInto(offsetBytes, bytes);
            const wanted = content.subarray(offsetBytes, offsetBytes + lengthBytes);
            assert.ok(isHere && bytes.equals(wanted), `${lengthBytes} bytes at ${offsetBytes}`);
          });
          await Promise.all(reads);
        }),
        { numRuns: 8 },
      );
      await session.end();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test('a mirror with a log fetches what was written, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-mirror-'));
  try {
    const disk = join(folder, 'disk');
    writeFileSync(disk, randomBytes(SIZE_BYTES));
    await using session = await openSession(disk);
    const mirror = new Mirror({
      session,
      sizeBytes: SIZE_BYTES,
      codec: 'none',
      tool: 'sha256sum',
      spool: memorySpool(),
      changes: async () => [
        { offsetBytes: 8192, lengthBytes: 512 },
        { offsetBytes: 0, lengthBytes: 1024 },
        { offsetBytes: 8_000_000, lengthBytes: 512 },
      ],
      onAnswer: () => undefined,
    });
    await mirror.recall();
    await mirror.complete([{ offsetBytes: 0, lengthBytes: 40_960 }]);
    assert.equal(await mirror.refresh(), 8192);
    assert.equal(mirror.lengthBytes, 40_960);
    await session.end();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a mirror goes on with what another one left, whatever happened to it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-mirror-'));
  try {
    const disk = join(folder, 'disk');
    const content = randomBytes(SIZE_BYTES);
    const whole = [{ offsetBytes: 0, lengthBytes: SIZE_BYTES }];
    writeFileSync(disk, content);
    await using session = await openSession(disk);
    const setup = {
      session,
      sizeBytes: SIZE_BYTES,
      codec: 'zstd',
      tool: 'b2sum',
      onAnswer: () => undefined,
    } as const;
    const spool = memorySpool();
    const log = [{ offsetBytes: 5 * 1024 * 1024, lengthBytes: 512 }];
    const first = new Mirror({ ...setup, spool, changes: async () => log });
    await first.recall();
    await first.complete(whole);
    content.fill(7, 5 * 1024 * 1024, 5 * 1024 * 1024 + 512);
    writeFileSync(disk, content);
    await first.refresh();
    const left = spool.all();
    // Nothing, the beginning of a file, all but the last frame, and all.
    const scene = fc.record({
      keptBytes: fc.constantFrom(0, 32, 40, left.length - 1, left.length),
      damageAt: fc.option(fc.integer({ min: 32, max: left.length - 1 })),
      change: fc.option(fc.integer({ min: 0, max: SIZE_BYTES - 1 })),
    });
    await fc.assert(
      fc.asyncProperty(scene, async ({ keptBytes, damageAt, change }) => {
        const bytes = Buffer.from(left.subarray(0, keptBytes));
        if (damageAt !== null && damageAt < keptBytes) {
          bytes[damageAt] = (bytes[damageAt] ?? 0) ^ 0x10;
        }
        if (change !== null) content[change] = (content[change] ?? 0) ^ 0xff;
        writeFileSync(disk, content);
        const mirror = new Mirror({ ...setup, spool: memorySpool(bytes) });
        const recalledBytes = await mirror.recall();
        const isUntouched = change === null && damageAt === null && keptBytes === left.length;
        if (isUntouched) assert.equal(recalledBytes, SIZE_BYTES);
        await mirror.complete(whole);
        const all = Buffer.alloc(SIZE_BYTES);
        assert.ok((await mirror.readInto(0, all)) && all.equals(content));
        if (change !== null) content[change] = (content[change] ?? 0) ^ 0xff;
      }),
      { numRuns: 12, examples: [[{ keptBytes: left.length, damageAt: null, change: null }]] },
    );
    await session.end();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a file that is something else is refused, and of another disk too', async () => {
  const session = {} as DeviceSession;
  const setup = { session, codec: 'zstd', tool: 'b2sum', onAnswer: () => undefined } as const;
  const spool = memorySpool();
  const empty = new Mirror({ ...setup, sizeBytes: SIZE_BYTES, spool });
  assert.equal(await empty.recall(), 0);
  for (const [left, sizeBytes] of [
    [spool.all(), SIZE_BYTES + 512],
    [Buffer.from('my notes'), SIZE_BYTES],
    [Buffer.alloc(100), SIZE_BYTES],
  ] as const) {
    const mirror = new Mirror({ ...setup, sizeBytes, spool: memorySpool(left) });
    await assert.rejects(mirror.recall(), (thrown) => isFailure(thrown, 'request-invalid'));
  }
});

test('a mirror asks for nothing that is there and did not change', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-mirror-'));
  try {
    const disk = join(folder, 'disk');
    writeFileSync(disk, randomBytes(SIZE_BYTES));
    await using session = await openSession(disk);
    const mirror = new Mirror({
      session,
      sizeBytes: SIZE_BYTES,
      codec: 'none',
      tool: 'sha256sum',
      spool: memorySpool(),
      onAnswer: () => undefined,
    });
    await mirror.recall();
    await mirror.complete([{ offsetBytes: 0, lengthBytes: SIZE_BYTES }]);
    assert.equal(await mirror.refresh(), 0);
    await mirror.complete([{ offsetBytes: 4096, lengthBytes: 4096 }]);
    assert.equal(mirror.lengthBytes, SIZE_BYTES);
    assert.equal(await mirror.readInto(SIZE_BYTES - 10, Buffer.alloc(20)), false);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
