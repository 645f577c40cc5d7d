import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { runCli } from '../../../../../test/fakes/cli-run.ts';
import { MIB } from '../../../../base/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-from-file-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

function noise(lengthBytes: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(
    Buffer.alloc(lengthBytes),
  );
}

/** What `artifact read` says of the payload. */
async function readOf(path: string): Promise<{ readonly digest: string }> {
  const { stdout } = await runCli(['artifact', 'read', '--json', path], {});
  return { digest: /"rootfs-image.checksum": *"([0-9a-f]+)"/.exec(stdout)?.[1] ?? '' };
}

/** Larger than what is hashed on the command's own thread, and than all memory that is used again. */
const disk = Buffer.concat([
  noise(9 * MIB + 5),
  Buffer.alloc(5 * MIB),
  Buffer.from('some text '.repeat(800_000)),
  Buffer.alloc(3 * MIB + 77),
  noise(MIB),
]);
writeFileSync(at('root.ext4'), disk);

const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu', '--no-progress'];

describe('an artifact of a large file', () => {
  for (const compression of ['gzip', 'none', 'zstd_fastest']) {
    test(`holds the file and its digest, ${compression}`, async () => {
      const output = at(`${compression}.mender`);
      const options = ['-f', at('root.ext4'), '--compression', compression, '-o', output];
      const written = await runCli([...write, ...options], {});
      assert.equal(written.status, 0, written.stderr);
      const validated = await runCli(['artifact', 'validate', output], {});
      assert.equal(validated.status, 0, validated.stderr);
      const files = at(`files-${compression}`);
      await runCli(['artifact', 'dump', '--files', files, output], {});
      const [name = ''] = readdirSync(files);
      assert.ok(readFileSync(join(files, name)).equals(disk));
    });
  }

  test('is the same on stdout as in a file', async () => {
    const options = ['-f', at('root.ext4'), '-o'];
    const there = await runCli([...write, ...options, at('there.mender')], {});
    assert.equal(there.status, 0, there.stderr);
    const streamed = await runCli([...write, ...options, '-'], {});
    assert.equal(streamed.status, 0, streamed.stderr);
    assert.ok(streamed.stdoutBytes.equals(readFileSync(at('there.mender'))));
  });

  test('is the same from a pipe, also a compressed one, and leaves no spool', async () => {
    const { digest } = await readOf(at('there.mender'));
    assert.match(digest, /^[0-9a-f]{64}$/);
    mkdirSync(at('spool'));
    for (const input of [disk, gzipSync(disk, { level: 1 })]) {
      const options = ['-f', '-', '--tmp', at('spool'), '-o', at('piped.mender')];
      const written = await runCli([...write, ...options], {}, input);
      assert.equal(written.status, 0, written.stderr);
      assert.match(written.stderr, /spooled in .*spool/);
      assert.deepEqual(readdirSync(at('spool')), []);
      assert.equal((await readOf(at('piped.mender'))).digest, digest);
    }
    execFileSync('mkfifo', [at('root.ext4.fifo')]);
    const feeding = writeFile(at('root.ext4.fifo'), disk);
    const options = ['-f', at('root.ext4.fifo'), '-o', at('fifo.mender')];
    const written = await runCli([...write, ...options], {});
    await feeding;
    assert.equal(written.status, 0, written.stderr);
    assert.equal((await readOf(at('fifo.mender'))).digest, digest);
  });

  test('refuses an empty pipe, and a folder that nothing is mounted at', async () => {
    const empty = await runCli([...write, '-f', '-', '-o', at('no.mender')], {});
    assert.notEqual(empty.status, 0);
    assert.match(empty.stderr, /is empty/);
    const refused = await runCli([...write, '-f', folder, '-o', at('no.mender')], {});
    assert.match(refused.stderr, /no mount point/);
    assert.equal(existsSync(at('no.mender')), false);
  });

  test('above the limit leaves nothing behind', async () => {
    const limited = [...write, '-f', at('root.ext4'), '--max-artifact-size', '2MB'];
    const refused = await runCli([...limited, '-o', at('large.mender')], {});
    assert.notEqual(refused.status, 0);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('large')),
      [],
    );
  });
});
