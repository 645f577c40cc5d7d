import assert from 'node:assert/strict';
import { createReadStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../../src/base/index.ts';
import { type Artifact, readArtifact, readVerificationKey } from '../../src/bytes/index.ts';
import { smallArtifact, smallHeader } from '../support/small-artifact.ts';

const folder = join(import.meta.dirname, 'artifacts');

/** What mender-artifact 3.9.0 wrote once; every version of ingot must read it. */
const EXPECTED: Readonly<Record<string, (artifact: Artifact) => void>> = {
  'rootfs-gzip': (artifact) => {
    assert.equal(artifact.compression, 'gzip');
    assert.equal(artifact.scripts[0]?.name, 'ArtifactInstall_Enter_00');
    assert.match(artifact.notices[0] ?? '', /no type/);
  },
  'rootfs-lzma': (artifact) => assert.equal(artifact.compression, 'xz'),
  'rootfs-v2': (artifact) => assert.equal(artifact.version, 2),
  'rootfs-signed': (artifact) => assert.equal(artifact.signature, 'right'),
  'module-augmented': (artifact) => {
    assert.deepEqual(artifact.payload.metaData?.get('a'), [1, new Map([['b', '<c>']])]);
    assert.deepEqual(
      artifact.files.map((file) => [file.name, file.isAugmented]),
      [
        ['one.sh', false],
        ['two.sh', true],
      ],
    );
  },
  bootstrap: (artifact) => assert.equal(artifact.info.payloadType, null),
};

for (const [name, check] of Object.entries(EXPECTED)) {
  test(`the artifact ${name} of mender-artifact 3.9 is read`, async () => {
    const key = readVerificationKey(readFileSync(join(folder, 'signed.pub'), 'latin1'), 'the key');
    const artifact = await readArtifact(createReadStream(join(folder, `${name}.mender`)), { key });
    assert.equal(artifact.info.name, 'r1');
    assert.deepEqual(artifact.info.deviceTypes, ['qemu']);
    check(artifact);
  });
}

test('the bytes of an artifact without compression never change', () => {
  const script = { name: 'ArtifactInstall_Enter_00', mode: 0o755, content: Buffer.from('#!') };
  const header = { ...smallHeader(), scripts: [script] };
  assert.equal(digestOf(smallArtifact({ header })), GOLDEN);
  assert.equal(digestOf(smallArtifact({ header: { ...smallHeader(), version: 2 } })), GOLDEN_V2);
});

const GOLDEN = 'f2310ce2c2f71b3d64eb963d619c1ecb268a96fb6c17f23e3e5d5f889c22e626';
const GOLDEN_V2 = 'e064eda5c708578a46f7522775eb8961fc465040c1a0afcc62cc6c95bc66cb6d';
