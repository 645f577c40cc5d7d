import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { noProgress, systemClock } from '../../src/base/index.ts';
import { readDiskMap } from '../../src/bytes/index.ts';
import { openFileTarget } from '../../src/capture/adapters/file-target.ts';
import {
  isVolume,
  type OpenVolume,
  openVolume,
} from '../../src/capture/adapters/volume-snapshot.ts';
import { DiskSnapshot } from '../../src/capture/disk-snapshot.ts';
import { type DumpReport, dumpSnapshot } from '../../src/capture/index.ts';
import { numberIn, startBusyWriter, writerPasses } from './busy-writer.ts';
import { eventually, settlesWithin, startWriter } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

const LIMITS = { maxFreezeMs: 60_000, maxStallMs: 30_000 };

/** Commands with the names and words of lvm2, over a loop device: this kernel has no device-mapper. */
interface StandIn extends Disposable {
  /** The lines that were called so far. */
  calls(): string[];
  /** Names of snapshots that there are. */
  snapshots(): string[];
}

function standIn(disk: LoopFilesystem, { freeExtents = 100 } = {}): StandIn {
  const group = `ingot-test-${process.pid}`;
  const folder = `/dev/${group}`;
  const bin = join(disk.scratch, 'bin');
  mkdirSync(bin);
  mkdirSync(folder);
  const { rdev } = statSync(disk.device);
  const number = `${Math.floor(rdev / 256)} ${rdev % 256}`;
  const write = (name: string, script: string): void => {
    const log = `echo "${name} $*" >> ${join(disk.scratch, 'calls')}\n`;
    writeFileSync(join(bin, name), `#!/bin/sh\n${log}${script}`);
    chmodSync(join(bin, name), 0o755);
  };
  write(
    'lvs',
    `case "$*" in
*@ingot*) ;;
*vg_free_count*) echo "  ${group} root ${freeExtents} 4194304 ${number}" ;;
*lv_attr*) echo "  swi-a-s---" ;;
*) for last; do :; done; [ -e "/dev/$last" ] || exit 5 ;;
esac`,
  );
  write(
    'lvcreate',
    `while [ $# -gt 1 ]; do [ "$1" = --name ] && name=$2; shift; done
fsfreeze -f ${disk.mountPoint}
cp --sparse=always ${disk.device} ${disk.scratch}/snapshot
fsfreeze -u ${disk.mountPoint}
ln -s "$(losetup --find --show ${disk.scratch}/snapshot)" ${folder}/$name`,
  );
  write(
    'lvremove',
    `for last; do :; done
losetup --detach "$(readlink "/dev/$last")" && rm "/dev/$last"`,
  );
  const path = process.env['PATH'] ?? '';
  process.env['PATH'] = `${bin}:${path}`;
  return {
    calls: () => {
      const file = join(disk.scratch, 'calls');
      return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
    },
    snapshots: () => readdirSync(folder),
    [Symbol.dispose]: () => {
      process.env['PATH'] = path;
      for (const name of readdirSync(folder)) {
        const device = run('readlink', join(folder, name)).trim();
        spawnSync('losetup', ['--detach', device]);
      }
      rmSync(folder, { recursive: true });
    },
  };
}

async function dumpVolume(
  disk: LoopFilesystem,
  volume: OpenVolume,
  image: string,
): Promise<DumpReport> {
  const owned = new AsyncDisposableStack();
  owned.use(volume);
  await using source = new DiskSnapshot({
    reader: volume.reader,
    guard: volume.guard,
    sync: async () => {
      run('sync', '-f', disk.mountPoint);
    },
    readMap: (reader, state) => readDiskMap(reader, { state }),
    freeSpace: 'zero',
    unguarded: 'none',
    isMounted: true,
    isHeldElsewhere: true,
    source: disk.mountPoint,
    notices: [],
    owned,
  });
  await using target = await openFileTarget(image);
  return await dumpSnapshot({
    source,
    target,
    compressor: undefined,
    onProgress: noProgress,
    signal: AbortSignal.timeout(60_000),
    clock: systemClock,
  });
}

describe('an LVM volume of this machine', () => {
  test('is captured through a snapshot of LVM, which is removed, while its writer goes on', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    using lvm = standIn(disk);
    const still = join(disk.mountPoint, 'still');
    mkdirSync(still);
    for (let i = 0; i < 50; i++) writeFileSync(join(still, `${i}`), randomBytes(1000 + i * 300));
    await using _writer = await startBusyWriter(disk.mountPoint);
    const volume = await openVolume(disk.device, LIMITS);
    assert.ok(volume !== undefined);
    const image = join(disk.scratch, 'a.img');
    const report = await dumpVolume(disk, volume, image);
    assert.equal(report.capture.consistency, 'frozen');
    assert.ok(report.capture.freezeMs > 0);
    assert.deepEqual(lvm.snapshots(), []);
    const group = `ingot-test-${process.pid}`;
    const [, , create = '', attributes = '', remove = ''] = lvm.calls();
    const [, name = ''] = /--name (ingot_\d+)/.exec(create) ?? [];
    assert.equal(
      create,
      `lvcreate --yes --snapshot --addtag ingot --name ${name} --extents 8 ${group}/root`,
    );
    assert.equal(attributes, `lvs --noheadings -o lv_attr ${group}/${name}`);
    assert.equal(remove, `lvremove --force --yes ${group}/${name}`);
    run('e2fsck', '-fn', image);
    const folder = disk.mountImage(image, 'loop,ro,noload');
    assert.deepEqual(differences(treeOf(still), treeOf(join(folder, 'still'))), []);
    const [first = 0, second = 0] = ['first', 'second'].map((one) => numberIn(join(folder, one)));
    assert.ok(first === second || first === second + 1, `${first} and ${second}`);
    await writerPasses(disk.mountPoint, first);
  });

  test('is frozen like others when its group has no room', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    using lvm = standIn(disk, { freeExtents: 0 });
    assert.equal(await openVolume(disk.device, LIMITS), undefined);
    assert.deepEqual(lvm.snapshots(), []);
    assert.equal(isVolume(disk.device), false);
  });

  test('loses its snapshot with the capture, also when that is killed', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    using lvm = standIn(disk);
    const module = join(import.meta.dirname, '../../src/capture/adapters/volume-snapshot.ts');
    const program = `
      const { openVolume } = await import(${JSON.stringify(module)});
      const volume = await openVolume(${JSON.stringify(disk.device)}, ${JSON.stringify(LIMITS)});
      await volume.guard.freeze();
      process.kill(process.pid, 'SIGKILL');`;
    const argv = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', program];
    const { signal, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    assert.equal(signal, 'SIGKILL', stderr);
    assert.ok(lvm.calls().some((line) => line.startsWith('lvcreate ')));
    await eventually('the end of the snapshot', () =>
      lvm.snapshots().length === 0 ? true : undefined,
    );
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000));
  });

  test('fails and leaves nothing when the snapshot cannot be made', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    using lvm = standIn(disk);
    const lvcreate = join(disk.scratch, 'bin', 'lvcreate');
    writeFileSync(lvcreate, '#!/bin/sh\necho "no thin pool" >&2\nexit 5\n');
    const volume = await openVolume(disk.device, LIMITS);
    assert.ok(volume !== undefined);
    const image = join(disk.scratch, 'a.img');
    await assert.rejects(dumpVolume(disk, volume, image), { code: 'freeze-failed' });
    assert.equal(existsSync(image), false);
    assert.deepEqual(lvm.snapshots(), []);
  });
});
