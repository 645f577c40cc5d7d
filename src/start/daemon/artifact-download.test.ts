import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { runCli } from '../../../test/fakes/cli-run.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { isFailure } from '../../base/index.ts';
import { readArtifact } from '../../bytes/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-artifact-of-image-'));
after(() => rmSync(folder, { recursive: true }));
const daemon = await startTestDaemon();
after(() => daemon[Symbol.asyncDispose]());

const plains = Array.from({ length: 20 }, (_, i) => bytesOf(i, 3000 + i * 900));
const disk = Buffer.concat([...plains, Buffer.alloc(3_000_000)]);
const image = await ingest(daemon.test.account, 'web', [...plains.map(segmentOf), 3_000_000]);

const path = (words: string): string => `/images/${image.id}/artifact?${words}`;

async function download(words: string, headers: Readonly<Record<string, string>> = {}) {
  const answer = await daemon.own.call({ method: 'GET', path: path(words), headers });
  return { answer, bytes: await buffer(answer) };
}

const WORDS = 'name=release-1&device_type=qemu';

describe('an artifact of an image, put together by the daemon', () => {
  test('says what the words say, holds the disk and is as long as it said', async () => {
    const { answer, bytes } = await download(
      `${WORDS}&device_type=pi4&group=lab&provides_group=field&depends=a:b&provides=c:d:e` +
        '&software_filesystem=data&software_name=web&software_version=7&payload_name=disk.img',
    );
    assert.equal(answer.headers['content-length'], String(bytes.length));
    assert.equal(answer.headers['content-type'], 'application/vnd.mender-artifact');
    const payload: Buffer[] = [];
    const artifact = await readArtifact(piecesOf(bytes), {
      onPayloadFile: async (_file, body) => {
        for await (const piece of body) payload.push(Buffer.from(piece));
      },
    });
    assert.ok(Buffer.concat(payload).equals(disk));
    assert.deepEqual(artifact.info.deviceTypes, ['qemu', 'pi4']);
    assert.deepEqual(artifact.info.dependsGroups, ['lab']);
    assert.equal(artifact.info.group, 'field');
    assert.equal(artifact.files[0]?.name, 'disk.img');
    const { depends, provides } = artifact.payload.typeInfo;
    assert.deepEqual([...depends], [['a', 'b']]);
    assert.equal(provides.get('c'), 'd:e');
    assert.equal(provides.get('data.web.version'), '7');
  });

  test('is what `ingot artifact write` makes of the same words', async () => {
    const { bytes } = await download(
      `${WORDS}&payload_name=rootfs.img&provides=rootfs-image.version:5&depends=k:v&group=g`,
    );
    const file = join(folder, 'cli.mender');
    const words = ['-n', 'release-1', '-t', 'qemu', '-p', 'rootfs-image.version:5', '-d', 'k:v'];
    const written = await runCli(
      [
        ...['artifact', 'write', 'rootfs-image', '-f', image.id, ...words, '-G', 'g'],
        ...['-o', file, '--no-progress'],
      ],
      daemon.env,
    );
    assert.equal(written.status, 0, written.stderr);
    assert.ok(readFileSync(file).equals(bytes));
  });

  const sameWords: Readonly<Record<string, readonly [query: string, words: readonly string[]]>> = {
    'what it clears': [
      'clears_provides=a.*&clears_provides=b.*&default_clears_provides=false',
      ['--clears-provides', 'a.*', '--clears-provides', 'b.*', '--no-default-clears-provides'],
    ],
    'no software version': ['default_software_version=false', ['--no-default-software-version']],
    'an artifact that must be there': ['depends_name=r0&depends_name=r1', ['-N', 'r0', '-N', 'r1']],
    'no checksum': ['checksum_provide=none', ['--no-checksum-provide']],
    'the checksum by its old name': ['checksum_provide=legacy', ['--legacy-rootfs-image-checksum']],
  };
  for (const [what, [query, options]] of Object.entries(sameWords)) {
    test(`takes the words of the command line: ${what}`, async () => {
      const { bytes } = await download(`${WORDS}&payload_name=rootfs.img&${query}`);
      const file = join(folder, 'same.mender');
      const words = ['-f', image.id, '-n', 'release-1', '-c', 'qemu', ...options, '-o', file];
      const write = ['artifact', 'write', 'rootfs-image', '--no-progress', ...words];
      const written = await runCli(write, daemon.env);
      assert.equal(written.status, 0, written.stderr);
      assert.ok(readFileSync(file).equals(bytes));
      const plain = await download(`${WORDS}&payload_name=rootfs.img`);
      assert.notDeepEqual(bytes, plain.bytes);
    });
  }

  test('gives any part of itself, with the same strong ETag', async () => {
    const { answer, bytes } = await download(WORDS);
    const etag = answer.headers.etag ?? '';
    const size = bytes.length;
    for (const [start, end] of [
      [0, 1],
      [1500, size - 700],
      [size - 1, size],
    ] as const) {
      const range = { range: `bytes=${start}-${end - 1}`, 'if-range': etag };
      const part = await download(WORDS, range);
      assert.equal(part.answer.statusCode, 206);
      assert.equal(part.answer.headers['content-range'], `bytes ${start}-${end - 1}/${size}`);
      assert.ok(part.bytes.equals(bytes.subarray(start, end)), `${start} to ${end}`);
    }
    const head = await daemon.own.call({ method: 'HEAD', path: path(WORDS) });
    assert.equal((await buffer(head)).length, 0);
    assert.equal(head.headers['content-length'], String(size));
    assert.equal(head.headers.etag, etag);
    assert.notEqual((await download('name=release-2&device_type=qemu')).answer.headers.etag, etag);
  });

  test('has a file name that a header can carry, whatever the artifact is called', async () => {
    const { answer } = await download(`name=${encodeURIComponent('é"/../x;y')}&device_type=qemu`);
    assert.equal(answer.headers['content-disposition'], 'attachment; filename="___.._x_y.mender"');
  });

  const refused: Readonly<Record<string, string>> = {
    'no name': 'device_type=qemu',
    'no device type': 'name=r1',
    'an empty name': 'name=&device_type=qemu',
    'a blank in the name': 'name=r%201&device_type=qemu',
    'two names': 'name=a&name=b&device_type=qemu',
    'a control character': 'name=r1&device_type=q%00u',
    'a name of more than 256 bytes': `name=${'r'.repeat(257)}&device_type=qemu`,
    'too many device types': `name=r1&${'device_type=q&'.repeat(65)}`,
    'a pair without a key': `${WORDS}&provides=:x`,
    'a pair without a colon': `${WORDS}&depends=x`,
    'a payload name with a folder': `${WORDS}&payload_name=..%2Fx`,
    'a flag that is neither': `${WORDS}&default_clears_provides=yes`,
    'a word that does not exist': `${WORDS}&signature=x`,
  };
  for (const [what, words] of Object.entries(refused)) {
    test(`is not made of ${what}`, async () => {
      await assert.rejects(download(words), (thrown) => isFailure(thrown, 'request-invalid'));
    });
  }

  test('is given to nobody who may not see the image', async () => {
    const isMissing = (thrown: unknown): boolean => isFailure(thrown, 'image-not-found');
    const of = (id: string): string => `/images/${id}/artifact?${WORDS}`;
    await assert.rejects(daemon.own.call({ method: 'GET', path: of('img-zzzzz') }), isMissing);
    await assert.rejects(daemon.foreign.call({ method: 'GET', path: of(image.id) }), isMissing);
  });
});

async function* piecesOf(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  yield bytes;
}
