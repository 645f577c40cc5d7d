import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCli } from '../fakes/cli-run.ts';
import { startTestDaemon } from '../fakes/test-daemon.ts';
import { run } from './loop-filesystem.ts';
import { partitionNumber, slotDevice, slotDeviceIsMissing } from './slot-device.ts';

const missing = slotDeviceIsMissing();
const ROOTFS_MIB = 24;
const write = [
  'artifact',
  'write',
  'rootfs-image',
  '-n',
  'release-1',
  '-c',
  'qemu',
  '--no-progress',
];

describe("an artifact that Mender's client installs", { skip: missing ?? false }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-mender-install-'));
  after(() => rmSync(folder, { recursive: true }));
  const at = (name: string): string => join(folder, name);
  const image = at('rootfs.ext4');

  before(() => {
    mkdirSync(at('tree'));
    writeFileSync(at('tree/noise'), randomBytes(3_000_000));
    writeFileSync(at('tree/text'), 'some text\n'.repeat(400_000));
    writeFileSync(image, '');
    truncateSync(image, ROOTFS_MIB * 1024 * 1024);
    run('mkfs.ext4', '-q', '-F', '-d', at('tree'), image);
  });

  /** What the first bytes of a device are. */
  function startOf(device: string, lengthBytes: number): Buffer {
    const bytes = Buffer.alloc(lengthBytes);
    const fd = openSync(device, 'r');
    try {
      readSync(fd, bytes, 0, lengthBytes, 0);
    } finally {
      closeSync(fd);
    }
    return bytes;
  }

  async function written(...words: readonly string[]): Promise<string> {
    const output = at('release-1.mender');
    const { status, stderr } = await runCli([...write, '-o', output, ...words], {});
    assert.equal(status, 0, stderr);
    return output;
  }

  for (const compression of ['gzip', 'lzma', 'none']) {
    test(`is in the inactive slot byte for byte, and is booted next: ${compression}`, async () => {
      using device = slotDevice({ slotMiB: ROOTFS_MIB + 16 });
      device.install(await written('-f', image, '--compression', compression));
      const bytes = readFileSync(image);
      assert.ok(startOf(device.inactive, bytes.length).equals(bytes));
      const environment = device.environment();
      assert.equal(environment.get('mender_boot_part'), partitionNumber(device.inactive));
      assert.equal(environment.get('upgrade_available'), '1');
    });
  }

  test('may be signed, and the client checks it', async () => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    writeFileSync(at('key.pem'), pair.privateKey.export({ type: 'sec1', format: 'pem' }));
    writeFileSync(at('key.pub'), pair.publicKey.export({ type: 'spki', format: 'pem' }));
    using device = slotDevice({ slotMiB: ROOTFS_MIB + 16, verifyKey: at('key.pub') });
    const unsigned = await written('-f', image);
    assert.throws(() => device.install(unsigned), /signature/i);
    device.install(await written('-f', image, '-k', at('key.pem')));
    const bytes = readFileSync(image);
    assert.ok(startOf(device.inactive, bytes.length).equals(bytes));
  });

  test('may come out of the library, put together from segments', async () => {
    await using daemon = await startTestDaemon();
    const imported = await runCli(
      ['images', 'import', '--quiet', '--json', '--name', 'golden', image],
      daemon.env,
    );
    assert.equal(imported.status, 0, imported.stderr);
    const listed = await runCli(['images', 'list', '--json'], daemon.env);
    const [{ id } = { id: '' }] = JSON.parse(listed.stdout) as { id: string }[];
    const output = at('library.mender');
    const made = await runCli([...write, '-f', id, '-o', output], daemon.env);
    assert.equal(made.status, 0, made.stderr);
    using device = slotDevice({ slotMiB: ROOTFS_MIB + 16 });
    device.install(output);
    const bytes = readFileSync(image);
    assert.ok(startOf(device.inactive, bytes.length).equals(bytes));
  });
});
