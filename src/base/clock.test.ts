import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockContract } from '../../test/contracts/clock.ts';
import { ManualClock } from '../../test/fakes/manual-clock.ts';
import { isoTime, parseIsoTime, systemClock } from './clock.ts';

clockContract('the machine’s', systemClock, (ms) => systemClock.sleep(ms));
const manual = new ManualClock();
clockContract('of tests', manual, (ms) => manual.advance(ms));

test('a time in words has whole seconds, and is read back', () => {
  const ms = Date.UTC(2010, 11, 19, 12, 57, 37, 999);
  assert.equal(isoTime(ms), '2010-12-19T12:57:37Z');
  assert.equal(parseIsoTime(isoTime(ms)), ms - 999);
  assert.ok(Number.isNaN(parseIsoTime('yesterday')));
});
