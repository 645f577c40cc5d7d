import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestStreamContract } from '../../../test/contracts/digest-stream.ts';
import { inlineDigestStream } from '../../base/index.ts';
import { openThreadedDigestStream } from './threaded-digest-stream.ts';

digestStreamContract('on this thread', inlineDigestStream);
digestStreamContract('on a thread of its own', openThreadedDigestStream);

test('a digest that is given up fails whoever waits for it', async () => {
  const stream = openThreadedDigestStream();
  const digest = assert.rejects(stream.digest(), /given up/);
  await stream[Symbol.asyncDispose]();
  await digest;
  await assert.rejects(stream.update(Buffer.from('x')), /given up/);
});
