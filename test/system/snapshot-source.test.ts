import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { freezeFilesystem, thawFilesystem } from '../../src/capture/adapters/libc.ts';
import { openSnapshotSource } from '../../src/capture/adapters/open-snapshot-source.ts';
import { snapshotSourceContract } from '../contracts/snapshot-source.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

const disks: LoopFilesystem[] = [];
after(() => {
  for (const disk of disks) disk[Symbol.dispose]();
});

/** A filesystem with some data that nobody changes any more, so that its bytes are known. */
function quietFilesystem(): LoopFilesystem {
  const disk = loopFilesystem({ sizeMiB: 16 });
  disks.push(disk);
  run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=64k', 'count=40');
  run('mount', '-o', 'remount,ro', disk.mountPoint);
  return disk;
}

let quiet: LoopFilesystem | undefined;
snapshotSourceContract('a mounted filesystem', async () => {
  quiet ??= quietFilesystem();
  const { mountPoint, image } = quiet;
  const source = await openSnapshotSource({
    source: mountPoint,
    freeSpace: 'keep',
    freeze: true,
    limits: { maxFreezeMs: 60_000, maxStallMs: 30_000 },
    forbiddenPaths: [],
  });
  const withDescriptor = <T>(use: (fd: number) => T): T => {
    const fd = openSync(mountPoint, 'r');
    try {
      return use(fd);
    } finally {
      closeSync(fd);
    }
  };
  return {
    source,
    plain: readFileSync(image),
    isFrozen: () =>
      withDescriptor((fd) => {
        if (freezeFilesystem(fd) === 'EBUSY') return true;
        thawFilesystem(fd);
        return false;
      }),
    loseFreeze: () => {
      withDescriptor((fd) => thawFilesystem(fd));
    },
  };
});

let unmounted: LoopFilesystem | undefined;
snapshotSourceContract('an unmounted block device', async () => {
  if (unmounted === undefined) {
    unmounted = loopFilesystem({ sizeMiB: 16 });
    disks.push(unmounted);
    run('umount', unmounted.mountPoint);
  }
  const device = run('losetup', '--find', '--show', '--read-only', unmounted.image).trim();
  const source = await openSnapshotSource({
    source: device,
    freeSpace: 'keep',
    freeze: true,
    limits: { maxFreezeMs: undefined, maxStallMs: 30_000 },
    forbiddenPaths: [],
  });
  // The kernel keeps the device until the source has closed it.
  run('losetup', '--detach', device);
  return {
    source,
    plain: readFileSync(unmounted.image),
    isFrozen: () => false,
    loseFreeze: undefined,
  };
});
