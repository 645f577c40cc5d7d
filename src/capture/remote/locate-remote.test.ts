import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FailureCode, isFailure } from '../../base/index.ts';
import { parseDeviceFacts } from './device-facts.ts';
import { locateRemote, type RemoteSource } from './locate-remote.ts';

interface Look {
  readonly kind?: string;
  readonly number?: string;
}

/** A device with a partitioned disk, LVM on its third partition, an overlay and a btrfs. */
function look(path: string, { kind = 'folder', number = '-' }: Look = {}): string {
  return `uid 0
boot 0123
arch aarch64
tools dd fsfreeze lvcreate
kind ${kind}
path ${path}
number ${number}
block 8:0 4096 sda - -
block 8:1 1024 sda1 sda -
block 8:2 1024 sda2 sda -
block 8:3 1024 sda3 sda dm-0,dm-1
block 8:16 2048 sdb - -
block 254:0 512 dm-0 - -
block 254:1 512 dm-1 - -
lv vg root 8 65536 254:0
lv vg full 0 65536 254:1
lv vg -evil 8 65536 254:1
mounts
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:2 / /mnt/a\\040b rw - ext4 /dev/sda2 rw
22 20 0:5 / /proc rw - proc proc rw
23 20 254:0 / /lvm rw - ext4 /dev/mapper/vg-root rw
24 20 254:1 / /full rw - ext4 /dev/mapper/vg-full rw
25 20 0:40 / /over rw - overlay overlay rw,lowerdir=/l,upperdir=/mnt/a\\040b/up,workdir=/w
26 20 0:41 /sub /btrfs rw - btrfs /dev/sdb rw`;
}

const PATHS: Readonly<Record<string, Look>> = {
  '/dev/sda': { kind: 'device', number: '8:0' },
  '/dev/sda2': { kind: 'device', number: '8:2' },
  '/dev/sdb': { kind: 'device', number: '8:16' },
  '/dev/sdz': { kind: 'missing' },
  '/file': { kind: 'file' },
};

function locate(path: string): Promise<RemoteSource> {
  return locateRemote(path, (one) => Promise.resolve(parseDeviceFacts(look(one, PATHS[one]))));
}

test('a folder stands for the filesystem that it lies on, blanks and all', async () => {
  const root = await locate('/etc');
  assert.equal(root.devicePath, '/dev/sda1');
  assert.equal(root.sizeBytes, 512 * 1024);
  assert.deepEqual(
    root.mounts.map(({ mountId }) => mountId),
    [20],
  );
  const blank = await locate('/mnt/a b/c');
  assert.equal(blank.devicePath, '/dev/sda2');
  assert.equal(blank.mounts[0]?.mountPoint, '/mnt/a b');
  // Not a path below `/mnt/a b`, though it begins like one.
  assert.equal((await locate('/mnt/a bc')).devicePath, '/dev/sda1');
});

test('a disk brings every filesystem of its partitions and of what is built on them', async () => {
  const disk = await locate('/dev/sda');
  assert.deepEqual(
    disk.mounts.map(({ mountId }) => mountId),
    [20, 21, 23, 24],
  );
  assert.equal(disk.volume, undefined);
  assert.deepEqual((await locate('/dev/sdb')).mounts[0]?.mountId, 26);
  assert.deepEqual((await locate('/dev/sda2')).mounts[0]?.mountId, 21);
});

test('an LVM volume with free extents has a snapshot, one without is frozen', async () => {
  assert.equal((await locate('/lvm')).volume?.name, 'root');
  assert.equal((await locate('/full')).volume, undefined);
});

test('an overlay is its upper layer, a btrfs the device that it names', async () => {
  const overlay = await locate('/over');
  assert.equal(overlay.devicePath, '/dev/sda2');
  assert.match(overlay.notices.join(), /overlay/);
  assert.equal((await locate('/btrfs')).devicePath, '/dev/sdb');
});

test('what cannot be captured is refused with its reason', async () => {
  const cases: Readonly<Record<string, FailureCode>> = {
    '/dev/sdz': 'source-not-found',
    '/file': 'source-unsupported',
    '/proc/1': 'source-unsupported',
  };
  for (const [path, code] of Object.entries(cases)) {
    await assert.rejects(locate(path), (thrown) => isFailure(thrown, code), path);
  }
  assert.throws(
    () => parseDeviceFacts('uid 0\n'),
    (thrown) => isFailure(thrown, 'frame-malformed'),
  );
});
