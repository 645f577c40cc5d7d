import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { DOWNLOAD_BYTES, DownloadMemory } from './download-memory.ts';

/** Takes until it is refused. */
function fill(memory: DownloadMemory, clientId: string, lengthBytes: number): Disposable[] {
  const taken: Disposable[] = [];
  for (;;) {
    try {
      taken.push(memory.take(clientId, lengthBytes));
    } catch (thrown) {
      assert.ok(isFailure(thrown, 'too-many-requests'));
      assert.equal(thrown.facts['retryAfterSeconds'], 10);
      return taken;
    }
  }
}

describe('the memory of downloads', () => {
  test('is for 16 raw disks or 64 gzip files of one client, and leaves some to others', () => {
    const memory = new DownloadMemory();
    const raw = fill(memory, 'cli-aaaaa', DOWNLOAD_BYTES.raw);
    assert.equal(raw.length, 16);
    const others = fill(memory, 'cli-bbbbb', DOWNLOAD_BYTES.gzip);
    assert.equal(others.length, 21);
    for (const one of [...raw, ...others]) one[Symbol.dispose]();
    assert.equal(fill(memory, 'cli-ccccc', DOWNLOAD_BYTES.gzip).length, 64);
  });

  test('of a small range is small', () => {
    const memory = new DownloadMemory();
    fill(memory, 'cli-aaaaa', DOWNLOAD_BYTES.raw);
    memory.take('cli-bbbbb', 1)[Symbol.dispose]();
  });
});
