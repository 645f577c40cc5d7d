import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../base/index.ts';
import { mergeExtents } from '../../bytes/index.ts';
import { ProcessChannel } from '../adapters/ssh-channel.ts';
import { ByteQueue } from './byte-queue.ts';
import { DeviceSession } from './device-session.ts';
import { RemoteReader } from './remote-reader.ts';

const SCRIPT = join(import.meta.dirname, '../adapters/device-script.sh');
const SIZE_BYTES = 9 * 1024 * 1024 + 1536;

test('planned or not, every read gives the bytes of the disk', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-reader-'));
  try {
    const disk = join(folder, 'disk');
    const content = randomBytes(SIZE_BYTES);
    writeFileSync(disk, content);
    const child = spawn('sh', [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
    const channel = new ProcessChannel('here', child);
    await using session = new DeviceSession(channel, new ByteQueue(channel.output), systemClock);
    await session.greeted();
    await session.open(disk);
    const setup = { sizeBytes: SIZE_BYTES, codec: 'none', isDirect: true } as const;
    const reader = new RemoteReader(session, setup);
    const extent = fc.record({
      offsetBytes: fc.integer({ min: 0, max: SIZE_BYTES - 1 }),
      lengthBytes: fc.constantFrom(1, 1024, 4096, 70_000, 1_048_576, 3_000_000),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(extent, { maxLength: 6 }),
        fc.array(extent, { minLength: 1, maxLength: 4 }),
        async (planned, wanted) => {
          const inside = [...planned, ...wanted].map(({ offsetBytes, lengthBytes }) => ({
            offsetBytes,
            lengthBytes: Math.min(lengthBytes, SIZE_BYTES - offsetBytes),
          }));
          reader.plan(mergeExtents(inside.slice(0, planned.length)));
          const reads = inside.map(async ({ offsetBytes, lengthBytes }) => {
            const bytes = await reader.read(offsetBytes, lengthBytes);
            assert.ok(bytes.equals(content.subarray(offsetBytes, offsetBytes + lengthBytes)));
          });
          await Promise.all(reads);
        },
      ),
      { numRuns: 8 },
    );
    await session.end();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
