import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from './digest.ts';
import { DigestBlocks } from './digest-blocks.ts';
import type { DigestStream } from './digest-stream.ts';

/** A stream that does nothing until it is given up. */
function idleStream(): { readonly stream: DigestStream; readonly giveUp: () => void } {
  const given = Promise.withResolvers<void>();
  given.promise.catch(() => undefined);
  const stream: DigestStream = {
    allocate: (sizeBytes) => Buffer.alloc(sizeBytes),
    update: async () => await given.promise,
    zeros: async () => await given.promise,
    digest: async () => digestOf(Buffer.alloc(0)),
    [Symbol.asyncDispose]: async () => undefined,
  };
  return { stream, giveUp: () => given.reject(new Error('it was given up')) };
}

describe('blocks for a digest', () => {
  test('that is given up leave no failure behind that nobody waits for', async (context) => {
    const unhandled: unknown[] = [];
    const listen = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', listen);
    context.after(() => process.off('unhandledRejection', listen));
    const { stream, giveUp } = idleStream();
    const blocks = new DigestBlocks(stream);
    await blocks.add(Buffer.alloc(1000));
    await blocks.zeros(1000);
    giveUp();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(unhandled, []);
    await assert.rejects(blocks.end(), /it was given up/);
  });
});
