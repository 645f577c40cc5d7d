import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { DigestStream } from '../../src/base/index.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What every digest stream promises. */
export function digestStreamContract(name: string, open: () => DigestStream): void {
  describe(`digest stream: ${name}`, () => {
    test('gives the SHA-256 of everything, in the order of the calls', async () => {
      const part = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 5000 }));
      await fc.assert(
        fc.asyncProperty(fc.array(part, { maxLength: 8 }), async (parts) => {
          await using stream = open();
          const plain = parts.map((bytes) =>
            typeof bytes === 'number' ? new Uint8Array(bytes) : bytes,
          );
          const taken = parts.map((bytes) =>
            typeof bytes === 'number' ? stream.zeros(bytes) : stream.update(bytes),
          );
          assert.equal(await stream.digest(), sha256(Buffer.concat(plain)));
          await Promise.all(taken);
        }),
        { numRuns: 5 },
      );
    });

    test('memory that it gave can be used again once it was taken', async () => {
      await using stream = open();
      const memory = stream.allocate(100_000);
      const whole: Buffer[] = [];
      for (let n = 1; n <= 5; n++) {
        memory.fill(n);
        whole.push(Buffer.from(memory));
        await stream.update(memory);
      }
      assert.equal(await stream.digest(), sha256(Buffer.concat(whole)));
    });

    test('takes gigabytes of zeros', async () => {
      await using stream = open();
      await stream.zeros(2 ** 26 + 1);
      const hash = createHash('sha256');
      for (let n = 0; n < 64; n++) hash.update(Buffer.alloc(2 ** 20));
      assert.equal(await stream.digest(), hash.update(Buffer.alloc(1)).digest('hex'));
    });
  });
}
