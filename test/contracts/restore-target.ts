import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RestoreTarget } from '../../src/publish/index.ts';

/** A target of at least 64 blocks, and what is on its medium, read by other means. */
export interface TargetUnderTest extends AsyncDisposable {
  readonly target: RestoreTarget;
  /** Reads the medium without the target. */
  onMedium(): Promise<Buffer>;
}

/** What every {@link RestoreTarget} promises. */
export function restoreTargetContract(name: string, open: () => Promise<TargetUnderTest>): void {
  describe(`restore target: ${name}`, () => {
    test('gives back what was written, and leaves the blocks beside it alone', async () => {
      await using made = await open();
      const { target } = made;
      const size = target.blockBytes;
      const before = target.allocate(size);
      await target.read(before, 0);
      const block = target.allocate(2 * size).fill(0x42);
      await target.write(block, size);
      const back = target.allocate(4 * size);
      await target.read(back, 0);
      assert.ok(back.subarray(0, size).equals(before));
      assert.ok(back.subarray(size, 3 * size).equals(block));
    });

    test('makes a range read as zeros', async () => {
      await using made = await open();
      const { target } = made;
      const size = target.blockBytes;
      await target.write(target.allocate(8 * size).fill(0x42), 0);
      await target.zero(2 * size, 4 * size);
      const back = target.allocate(8 * size);
      await target.read(back, 0);
      assert.ok(back.subarray(0, 2 * size).every((byte) => byte === 0x42));
      assert.ok(back.subarray(2 * size, 6 * size).every((byte) => byte === 0));
      assert.ok(back.subarray(6 * size).every((byte) => byte === 0x42));
    });

    test('has everything on the medium after sync', async () => {
      await using made = await open();
      const { target } = made;
      const size = target.blockBytes;
      await target.write(target.allocate(size).fill(0x17), 3 * size);
      await target.sync();
      await target.publish();
      const medium = await made.onMedium();
      assert.equal(medium.length, target.facts.sizeBytes);
      assert.ok(medium.subarray(3 * size, 4 * size).every((byte) => byte === 0x17));
    });

    test('fills what lies behind its end with zeros', async () => {
      await using made = await open();
      const { target } = made;
      const size = target.blockBytes;
      const end = Math.ceil(target.facts.sizeBytes / size) * size;
      const back = target.allocate(2 * size).fill(0xff);
      await target.read(back, end - size);
      assert.ok(back.subarray(size).every((byte) => byte === 0));
    });
  });
}
