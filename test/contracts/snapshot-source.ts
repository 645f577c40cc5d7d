import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFailure } from '../../src/base/index.ts';
import type { SnapshotPass, SnapshotSource } from '../../src/capture/index.ts';

/** A source under test, with what it must show. */
export interface SourceUnderTest {
  readonly source: SnapshotSource;
  /** The whole disk as a snapshot of it must read. */
  readonly plain: Buffer;
  /** Whether something is frozen now. */
  readonly isFrozen: () => boolean;
  /** Ends the freeze behind the source's back; undefined where nothing freezes. */
  readonly loseFreeze: (() => void) | undefined;
}

const READ_BYTES = 1024 * 1024;

/** Reads a pass as `keep/` does: its extents, zeros elsewhere. */
async function readWhole(pass: SnapshotPass): Promise<Buffer> {
  const whole = Buffer.alloc(pass.sizeBytes);
  for (const { offsetBytes, lengthBytes } of pass.extents) {
    for (let done = 0; done < lengthBytes; done += READ_BYTES) {
      const length = Math.min(READ_BYTES, lengthBytes - done);
      (await pass.read(offsetBytes + done, length)).copy(whole, offsetBytes + done);
    }
  }
  return whole;
}

/** What every {@link SnapshotSource} promises. `open` gives a new one each time. */
export function snapshotSourceContract(name: string, open: () => Promise<SourceUnderTest>): void {
  describe(`snapshot source: ${name}`, () => {
    test('shows every byte of the disk in its frozen pass', async () => {
      const { source, plain } = await open();
      await using opened = source;
      assert.equal(opened.sizeBytes, plain.length);
      const pass = await opened.pass('frozen');
      assert.equal(pass.kind, 'frozen');
      assert.ok((await readWhole(pass)).equals(plain));
      await pass.end();
    });

    test('gives ascending extents inside the disk with gaps between them', async () => {
      const { source } = await open();
      await using opened = source;
      const pass = await opened.pass('live');
      let end = -1;
      for (const { offsetBytes, lengthBytes } of pass.extents) {
        assert.ok(offsetBytes > end && lengthBytes > 0);
        end = offsetBytes + lengthBytes;
      }
      assert.ok(end <= pass.sizeBytes);
      await pass.end();
    });

    test('reads any range, several at once', async () => {
      const { source, plain } = await open();
      await using opened = source;
      const pass = await opened.pass('live');
      const [first] = pass.extents;
      assert.ok(first !== undefined, 'the source under test has data');
      const ranges = [0, 1, 511, 4095].map((skip) => {
        const at = first.offsetBytes + Math.min(skip, first.lengthBytes - 1);
        return { at, length: Math.min(5000, first.offsetBytes + first.lengthBytes - at) };
      });
      const read = await Promise.all(ranges.map(({ at, length }) => pass.read(at, length)));
      for (const [i, { at, length }] of ranges.entries()) {
        assert.ok(read[i]?.equals(plain.subarray(at, at + length)), `${length} bytes at ${at}`);
      }
      await pass.end();
    });

    test('refuses to read beyond its end', async () => {
      const { source, plain } = await open();
      await using opened = source;
      const pass = await opened.pass('live');
      await assert.rejects(pass.read(plain.length - 1, 2), (thrown) =>
        isFailure(thrown, 'source-truncated'),
      );
      await pass.end();
    });

    test('has nothing frozen in a live pass, nor after the frozen one has ended twice', async () => {
      const { source, isFrozen } = await open();
      await using opened = source;
      const live = await opened.pass('live');
      assert.equal(isFrozen(), false);
      await live.end();
      const pass = await opened.pass('frozen');
      await pass.end();
      await pass.end();
      assert.equal(isFrozen(), false);
    });

    test('thaws when it is disposed of in the middle, also twice', async () => {
      const { source, isFrozen } = await open();
      await source.pass('frozen');
      await source[Symbol.asyncDispose]();
      await source[Symbol.asyncDispose]();
      assert.equal(isFrozen(), false);
    });

    test('allows one pass at a time', async () => {
      const { source } = await open();
      await using opened = source;
      const pass = await opened.pass('live');
      await assert.rejects(opened.pass('frozen'));
      await pass.end();
    });

    test('says how consistent it was once the frozen pass is over', async () => {
      const { source, loseFreeze } = await open();
      await using opened = source;
      await (await opened.pass('frozen')).end();
      const { consistency, freezeMs } = opened.facts();
      assert.equal(consistency === 'frozen', loseFreeze !== undefined);
      assert.equal(freezeMs > 0, loseFreeze !== undefined);
    });

    test('fails instead of giving bytes once its freeze is lost', async () => {
      const { source, loseFreeze } = await open();
      await using opened = source;
      if (loseFreeze === undefined) return;
      const pass = await opened.pass('frozen');
      loseFreeze();
      const [first] = pass.extents;
      assert.ok(first !== undefined);
      await assert.rejects(
        async () => {
          await pass.read(first.offsetBytes, 1);
          await pass.end();
        },
        (thrown) => isFailure(thrown, 'freeze-lost'),
      );
    });
  });
}
