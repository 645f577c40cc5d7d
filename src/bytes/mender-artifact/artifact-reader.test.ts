import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, test } from 'node:test';
import { inPieces, smallArtifact, smallHeader } from '../../../test/support/small-artifact.ts';
import { type FailureCode, isFailure } from '../../base/index.ts';
import { encodeTarHeader } from '../tar/tar-header.ts';
import { ROOTFS_IMAGE } from './artifact.ts';
import { readArtifact } from './artifact-reader.ts';
import { readSigningKey, readVerificationKey } from './signature.ts';

const read = (bytes: Uint8Array, pieceBytes?: number): ReturnType<typeof readArtifact> =>
  readArtifact(inPieces(bytes, pieceBytes));

/** The offsets of an artifact's outer entries by name. */
async function places(
  bytes: Buffer,
): Promise<Map<string, { start: number; body: number; end: number }>> {
  const { entries } = await read(bytes);
  return new Map(
    entries.map(({ name, startByte, bodyByte, sizeBytes }) => [
      name,
      { start: startByte, body: bodyByte, end: bodyByte + Math.ceil(sizeBytes / 512) * 512 },
    ]),
  );
}

async function refused(bytes: Uint8Array, code: FailureCode, words: RegExp): Promise<void> {
  await assert.rejects(read(bytes), (thrown: unknown) => {
    assert.ok(isFailure(thrown), String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, words);
    return true;
  });
}

/** Renames an entry at `start` and mends its checksum. */
function renamed(bytes: Buffer, start: number, name: string, flag = '0'): Buffer {
  const copy = Buffer.from(bytes);
  const header = copy.subarray(start, start + 512);
  header.fill(0, 0, 100).write(name, 'latin1');
  header.write(flag, 156, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return copy;
}

describe('reading an artifact', () => {
  test('gives all that it says, for each compression and any piece length', async () => {
    for (const compression of ['none', 'gzip', 'zstd'] as const) {
      for (const pieceBytes of [1, 513, 65_536]) {
        const bytes = smallArtifact({ compression });
        const seen: string[] = [];
        const artifact = await readArtifact(inPieces(bytes, pieceBytes), {
          onPayloadFile: async (file, body) => {
            for await (const piece of body)
              seen.push(`${file.name}:${Buffer.from(piece).toString()}`);
          },
        });
        assert.equal(artifact.compression, compression);
        assert.equal(artifact.info.name, 'release-1');
        assert.equal(artifact.sizeBytes, bytes.length);
        assert.equal(seen.map((s) => s.split(':')[1]).join(''), 'root filesystem');
        assert.deepEqual(artifact.notices, []);
      }
    }
  });

  test('checks the rest of a payload that its taker left', async () => {
    const body = Buffer.alloc(300_000, 7);
    const bytes = smallArtifact({ files: [{ name: 'f', body }], compression: 'gzip' });
    const artifact = await readArtifact(inPieces(bytes), {
      onPayloadFile: async (_file, pieces) => {
        for await (const piece of pieces) if (piece.byteLength > 0) break;
      },
    });
    assert.equal(artifact.files[0]?.sizeBytes, 300_000);
  });

  test('tolerates the missing type of old rootfs artifacts and says so', async () => {
    for (const type of ['', null]) {
      const header = smallHeader();
      const typeInfo = { ...header.payload.typeInfo, type };
      const old = smallArtifact({
        header: { ...header, payload: { ...header.payload, typeInfo } },
      });
      const artifact = await read(old);
      assert.equal(artifact.payload.typeInfo.type, ROOTFS_IMAGE);
      assert.match(artifact.notices[0] ?? '', /no type/);
    }
  });

  test('reads scripts, metadata, version 2, bootstrap and augmented artifacts', async () => {
    const header = smallHeader();
    const script = { name: 'ArtifactInstall_Enter_00', mode: 0o755, content: Buffer.from('x') };
    const scripted = await read(smallArtifact({ header: { ...header, scripts: [script] } }));
    assert.equal(scripted.scripts[0]?.name, script.name);

    const v2 = await read(smallArtifact({ header: { ...header, version: 2 } }));
    assert.equal(v2.version, 2);

    const none = { ...header.payload.typeInfo, type: null };
    const boot = smallArtifact({
      header: {
        ...header,
        info: { ...header.info, payloadType: null },
        payload: { typeInfo: none, metaData: undefined },
      },
      files: [],
    });
    assert.equal((await read(boot)).info.payloadType, null);

    const augment = {
      payloadType: 'rootfs-image',
      typeInfo: { ...header.payload.typeInfo, provides: new Map([['a', 'b']]) },
      metaData: new Map([['k', 1]]),
    };
    const augmented = await read(
      smallArtifact({
        header: { ...header, augment },
        files: [
          { name: 'one', body: Buffer.from('1') },
          { name: 'two', body: Buffer.from('2'), isAugmented: true },
        ],
      }),
    );
    assert.deepEqual(augmented.augment?.metaData, new Map([['k', 1]]));
    assert.deepEqual(
      augmented.files.map((file) => file.isAugmented),
      [false, true],
    );
  });

  test('tells right, wrong, unchecked and absent signatures apart', async () => {
    for (const pair of [
      generateKeyPairSync('rsa', { modulusLength: 2048 }),
      generateKeyPairSync('ec', { namedCurve: 'prime256v1' }),
    ]) {
      const pem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      const publicPem = pair.publicKey.export({ type: 'spki', format: 'pem' }).toString();
      const bytes = smallArtifact({ key: readSigningKey(pem, 'key') });
      const key = readVerificationKey(publicPem, 'key');
      assert.equal((await readArtifact(inPieces(bytes), { key })).signature, 'right');
      assert.equal((await read(bytes)).signature, 'unchecked');
      const other = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).publicKey;
      const wrong = readVerificationKey(
        other.export({ type: 'spki', format: 'pem' }).toString(),
        'other',
      );
      assert.equal((await readArtifact(inPieces(bytes), { key: wrong })).signature, 'wrong');
    }
    assert.equal((await read(smallArtifact())).signature, 'absent');
  });
});

describe('a hostile or damaged artifact', () => {
  test('is refused wherever it is cut, at every 512 bytes and beside them', async () => {
    for (const compression of ['none', 'gzip'] as const) {
      const whole = smallArtifact({ compression });
      for (let length = 0; length < whole.length; length += 256) {
        await assert.rejects(
          read(whole.subarray(0, length)),
          isFailure,
          `cut after ${length} bytes`,
        );
      }
    }
  });

  test('is refused when any byte that means something changes', async () => {
    const whole = smallArtifact({ compression: 'none' });
    const known = await places(whole);
    for (const name of ['version', 'manifest', 'header.tar']) {
      const place = known.get(name);
      assert.ok(place !== undefined);
      const broken = Buffer.from(whole);
      broken[place.body + 20] = (broken[place.body + 20] ?? 0) ^ 1;
      await assert.rejects(read(broken), isFailure, name);
    }
    const data = known.get('data/0000.tar');
    assert.ok(data !== undefined);
    const broken = Buffer.from(whole);
    broken[data.body + 512] = (broken[data.body + 512] ?? 0) ^ 1;
    await refused(broken, 'artifact-malformed', /data\/0000\/rootfs\.ext4 has the digest/);
  });

  test('is refused for names that lead elsewhere, links, devices and wrong order', async () => {
    const whole = smallArtifact();
    const known = await places(whole);
    const data = known.get('data/0000.tar');
    const header = known.get('header.tar');
    const manifest = known.get('manifest');
    assert.ok(data !== undefined && header !== undefined && manifest !== undefined);
    const inner = data.body;
    await refused(renamed(whole, inner, '../evil'), 'path-refused', /\.\.\/evil/);
    await refused(renamed(whole, inner, '/etc/passwd'), 'path-refused', /data\/0000\.tar/);
    await refused(renamed(whole, inner, 'a/b'), 'artifact-malformed', /a\/b/);
    await refused(
      renamed(whole, inner, 'rootfs.ext4', '2'),
      'artifact-malformed',
      /no regular file/,
    );
    await refused(
      renamed(whole, inner, 'rootfs.ext4', '3'),
      'artifact-malformed',
      /no regular file/,
    );
    await refused(renamed(whole, inner, 'other'), 'artifact-malformed', /does not name/);
    await refused(renamed(whole, data.start, 'data/../x'), 'path-refused', /the artifact/);
    await refused(
      renamed(whole, data.start, 'data/0001.tar'),
      'artifact-malformed',
      /stands after/,
    );
    await refused(renamed(whole, manifest.start, 'version'), 'artifact-malformed', /twice/);
    await refused(renamed(whole, 0, 'manifest'), 'artifact-malformed', /begins with/);
    const swapped = Buffer.concat([
      whole.subarray(0, header.start),
      whole.subarray(data.start, data.end),
      whole.subarray(header.start, header.end),
      whole.subarray(data.end),
    ]);
    await refused(swapped, 'artifact-malformed', /data\/0000\.tar stands after manifest/);
    const doubled = Buffer.concat([
      whole.subarray(0, data.end),
      whole.subarray(data.start, data.end),
      whole.subarray(data.end),
    ]);
    await refused(doubled, 'artifact-malformed', /twice/);
  });

  test('is refused for bytes after its end, and taken with zeros there', async () => {
    const whole = smallArtifact();
    await refused(
      Buffer.concat([whole, Buffer.from('x')]),
      'artifact-malformed',
      /end of the archive/,
    );
    await read(Buffer.concat([whole, Buffer.alloc(8192)]));
    await refused(
      Buffer.concat([whole, Buffer.alloc(17 << 20)]),
      'artifact-malformed',
      /follow its end/,
    );
  });

  test('is refused for what its header holds', async () => {
    const header = smallHeader();
    const script = { name: 'ArtifactInstall_Enter_00', mode: 0o755, content: Buffer.from('x') };
    const cases: [string, ReturnType<typeof smallHeader>, RegExp][] = [
      ['no device type', { ...header, info: { ...header.info, deviceTypes: [] } }, /device type/],
      [
        'a type that differs',
        { ...header, info: { ...header.info, payloadType: 'script' } },
        /type-info: the type is "rootfs-image"/,
      ],
      [
        'an unknown state',
        { ...header, scripts: [{ ...script, name: 'Sync_Enter_00' }] },
        /no name of a state script/,
      ],
      [
        'a bootstrap artifact with a file',
        {
          ...header,
          info: { ...header.info, payloadType: null },
          payload: { typeInfo: { ...header.payload.typeInfo, type: null }, metaData: undefined },
        },
        /bootstrap/,
      ],
    ];
    for (const [what, bad, words] of cases) {
      await assert.rejects(read(smallArtifact({ header: bad })), words, what);
    }
  });

  test('does not make the reader hold a bomb', async () => {
    const names = Array.from({ length: 3 }, (_, i) => ({
      name: `ArtifactInstall_Enter_0${i}`,
      mode: 0o755,
      content: Buffer.alloc(17 << 20),
    }));
    const bomb = smallArtifact({
      header: { ...smallHeader(), scripts: names.slice(0, 1) },
      compression: 'gzip',
    });
    assert.ok(bomb.length < 200_000);
    await refused(bomb, 'artifact-malformed', /too much/);
  });

  test('is refused for a huge declared size before it is read', async () => {
    const huge = encodeTarHeader({ name: 'version', mode: 0o600, sizeBytes: 2 ** 50 });
    await refused(huge, 'artifact-malformed', /1125899906842624/);
  });
});
