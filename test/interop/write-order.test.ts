import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DirectoryLibrary } from '../../src/keep/index.ts';
import { bytesOf, ingest, segmentOf } from '../contracts/ingest-session.ts';
import { ACCOUNT, partsIn } from '../contracts/test-library.ts';

const folder = process.env['INGOT_TRACED_FOLDER'];

/** Calls that begin in this order, by a pattern of their `strace -y` line. */
function steps(packId: string, imageId: string): [string, RegExp][] {
  const open = `incoming/${packId}\\.pack`;
  return [
    ['the segments are written', new RegExp(`pwrite(v|64)\\(\\d+<[^>]*${open}>`)],
    ['the segments are synced', new RegExp(`fdatasync\\(\\d+<[^>]*${open}>`)],
    ['the index of the pack is written', new RegExp(`pwrite(v|64)\\(\\d+<[^>]*${open}>`)],
    ['the index of the pack is synced', new RegExp(`fdatasync\\(\\d+<[^>]*${open}>`)],
    ['the pack gets its name', new RegExp(`rename\\("[^"]*${open}", "[^"]*packs/`)],
    ['the name is synced', /fsync\(\d+<[^>]*\/packs>/],
    ['the chunks are in the index', /pwrite64\(\d+<[^>]*index\.db-wal>/],
    ['the index is synced', /f(data)?sync\(\d+<[^>]*index\.db-wal>/],
    ['a page is synced', /fdatasync\(\d+<[^>]*manifests\/pages\/[^>]*\.new>/],
    ['the page gets its name', /rename\("[^"]*manifests\/pages\/[^"]*\.new"/],
    ['the name of the page is synced', /fsync\(\d+<[^>]*manifests\/pages\/..>/],
    ['the root is synced', new RegExp(`fdatasync\\(\\d+<[^>]*${imageId}\\.manifest\\.new>`)],
    ['the root gets its name', new RegExp(`rename\\("[^"]*${imageId}\\.manifest\\.new"`)],
    ['the name of the root is synced', /fsync\(\d+<[^>]*manifests\/images>/],
    ['the record is synced', new RegExp(`fdatasync\\(\\d+<[^>]*${imageId}\\.record\\.json\\.new>`)],
    ['the name of the record is synced', /fsync\(\d+<[^>]*manifests\/images>/],
    ['the pages of the image are in the index', /f(data)?sync\(\d+<[^>]*index\.db-wal>/],
    ['the image is in the state', /pwrite64\(\d+<[^>]*state\.db-wal>/],
    ['the state is synced', /f(data)?sync\(\d+<[^>]*state\.db-wal>/],
    ['the answer', new RegExp(`write\\(1<[^>]*>, "made ${imageId} `)],
  ];
}

if (folder !== undefined) {
  await using library = await DirectoryLibrary.open(
    partsIn(folder, { limits: { digestBytes: 0 } }),
  );
  const chunks = Array.from({ length: 20 }, (_, i) => segmentOf(bytesOf(i, 3000)));
  const { id } = await ingest(library.forAccount(ACCOUNT), 'one', chunks);
  process.stdout.write(`made ${id} \n`);
} else {
  const hasStrace = spawnSync('strace', ['-V']).status === 0;
  describe('the writes of an ingest', { skip: !hasStrace && 'strace is not installed' }, () => {
    test('reach the kernel in the order of docs/library.md, before the answer', () => {
      const data = mkdtempSync(join(tmpdir(), 'ingot-order-'));
      try {
        const trace = join(data, 'lost+found');
        const run = spawnSync(
          'strace',
          ['-f', '-y', '-s', '64', '-o', trace]
            .concat(['-e', 'trace=write,pwrite64,pwritev,fdatasync,fsync,rename'])
            .concat([process.execPath, '--disable-warning=ExperimentalWarning'])
            .concat([import.meta.filename]),
          { env: { ...process.env, INGOT_TRACED_FOLDER: data }, encoding: 'utf8' },
        );
        assert.equal(run.status, 0, run.stderr);
        const imageId = /^made (img-[a-z0-9]{5}) $/m.exec(run.stdout)?.[1] ?? '';
        const lines = readFileSync(trace, 'utf8').split('\n');
        const packId = /incoming\/([0-9a-f]{32})\.pack/.exec(lines.join('\n'))?.[1] ?? '';
        let at = -1;
        for (const [what, pattern] of steps(packId, imageId)) {
          const next = lines.findIndex((line, i) => i > at && pattern.test(line));
          assert.ok(next > at, `${what}: not found behind line ${at}: ${lines[at] ?? ''}`);
          at = next;
        }
      } finally {
        rmSync(data, { recursive: true });
      }
    });
  });
}
