import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { parseLogBase, parseWritten } from './write-log.ts';

const device = { baseSector: 2048, sizeBytes: 100 * 512 };

test('what was written is counted from the beginning of the device, and cut to it', () => {
  const text = '2048 8\n2140 100\n2000 8\n2040 16\n18446744073709551615 0\n2147 1\n';
  assert.deepEqual(parseWritten(text, device), [
    { offsetBytes: 0, lengthBytes: 8 * 512 },
    { offsetBytes: 92 * 512, lengthBytes: 8 * 512 },
    { offsetBytes: 0, lengthBytes: 8 * 512 },
    { offsetBytes: 99 * 512, lengthBytes: 512 },
  ]);
  assert.deepEqual(parseWritten('', device), []);
});

test('a log that lost something is no log', () => {
  assert.equal(parseWritten('lost', device), undefined);
  assert.equal(parseLogBase('none'), undefined);
  assert.equal(parseLogBase('base 2048'), 2048);
});

test('a line that is no write fails', () => {
  for (const line of ['1', '1 2 3', '-1 8', 'x 8', '9999999999999999 9', '12 99999999999']) {
    assert.throws(
      () => parseWritten(`${line}\n`, device),
      (thrown) => isFailure(thrown, 'frame-malformed'),
      line,
    );
  }
});
