import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { isFailure } from '../../base/index.ts';
import type { Caller } from './backend.ts';
import { TOKEN_SECONDS, TokenIssuer } from './tokens.ts';

const CALLER: Caller = { clientId: 'cli-aaaaa', accountId: 'acc-aaaaa' };
const isRefused = (thrown: unknown): boolean => isFailure(thrown, 'not-authorized');

describe('a token', () => {
  test('stands for its client until its hour is over, however often it was read', async () => {
    const clock = new ManualClock();
    const tokens = new TokenIssuer(randomBytes(32), clock);
    const token = await tokens.issue(CALLER);
    for (let i = 0; i < 3; i++) assert.deepEqual(await tokens.read(token), CALLER);
    await clock.advance(TOKEN_SECONDS * 1000 - 1);
    assert.deepEqual(await tokens.read(token), CALLER);
    await clock.advance(1);
    for (let i = 0; i < 2; i++) await assert.rejects(tokens.read(token), isRefused);
  });

  test('that was changed in any place, or made with another key, is refused each time', async () => {
    const clock = new ManualClock();
    const tokens = new TokenIssuer(randomBytes(32), clock);
    const token = await tokens.issue(CALLER);
    assert.deepEqual(await tokens.read(token), CALLER);
    const foreign = await new TokenIssuer(randomBytes(32), clock).issue(CALLER);
    await assert.rejects(tokens.read(foreign), isRefused);
    for (let at = 0; at < token.length; at += 7) {
      const other = token[at] === 'A' ? 'Q' : 'A';
      const changed = `${token.slice(0, at)}${other}${token.slice(at + 1)}`;
      for (let i = 0; i < 2; i++) await assert.rejects(tokens.read(changed), isRefused);
    }
  });

  test('is still good when hundreds of others were read after it', async () => {
    const clock = new ManualClock();
    const tokens = new TokenIssuer(randomBytes(32), clock);
    const token = await tokens.issue(CALLER);
    assert.deepEqual(await tokens.read(token), CALLER);
    for (let i = 0; i < 300; i++) {
      await clock.advance(1000);
      await tokens.read(await tokens.issue(CALLER));
    }
    assert.deepEqual(await tokens.read(token), CALLER);
  });
});
