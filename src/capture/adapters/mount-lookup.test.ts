import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MountEntry } from '../mount-table.ts';
import { isAnsweredByKernel } from './mount-lookup.ts';

test('a file is answered for by the kernel unless a network or a program has it', async () => {
  await using file = await open(fileURLToPath(import.meta.url));
  const info = readFileSync(`/proc/self/fdinfo/${file.fd}`, 'utf8');
  const mountId = Number(/mnt_id:\s*(\d+)/.exec(info)?.[1]);
  const isFine = (device: string, filesystem: string, id = mountId): boolean => {
    const entry: MountEntry = {
      mountId: id,
      device,
      root: '/',
      mountPoint: '/',
      filesystem,
      source: 'x',
      superOptions: 'rw',
    };
    return isAnsweredByKernel(file.fd, [entry]);
  };
  for (const [device, filesystem] of [
    ['8:1', 'ext4'],
    ['254:0', 'xfs'],
    ['0:31', 'btrfs'],
    ['0:40', 'overlay'],
    ['0:22', 'tmpfs'],
  ] as const) {
    assert.ok(isFine(device, filesystem), filesystem);
  }
  for (const [device, filesystem] of [
    ['0:50', 'nfs4'],
    ['0:51', 'cifs'],
    ['0:52', 'fuse.sshfs'],
    ['0:53', 'fuse'],
    ['8:17', 'fuseblk'],
    ['0:54', '9p'],
    ['0:55', 'ceph'],
  ] as const) {
    assert.ok(!isFine(device, filesystem), filesystem);
  }
  assert.ok(!isFine('8:1', 'ext4', mountId + 1), 'a mount that is not seen');
});
