import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Ending, eventually, openPipe, startIngot } from '../system/ingot-command.ts';
import { type Guest, startGuest } from './guest.ts';
import { guestIsMissing } from './guest-packages.ts';

const MIB = 1024 * 1024;

/** A filesystem of the guides: how it is made, checked and mounted as a copy. */
interface Kind {
  readonly sizeMiB: number;
  /** Ends before the device's name. */
  readonly make: string;
  /** Ends before the device's name; must end with 0 for a copy that is whole. */
  readonly check: string;
  /** Whether the copy is mounted, which replays a journal, before it is checked. */
  readonly mountsFirst: boolean;
  readonly mountOptions: string;
}

const KINDS: Readonly<Record<'btrfs' | 'ext4' | 'f2fs' | 'jfs' | 'reiserfs' | 'xfs', Kind>> = {
  f2fs: {
    sizeMiB: 96,
    make: 'mkfs.f2fs -q',
    check: 'fsck.f2fs --dry-run',
    mountsFirst: false,
    mountOptions: 'rw',
  },
  jfs: {
    sizeMiB: 64,
    make: 'jfs_mkfs -q',
    // A frozen JFS keeps the control pages of its maps in memory and calls itself clean (the kernel
    // writes them at unmount only), so its copy needs one full check; that corrects them (status 1).
    check: 'repaired_jfs',
    mountsFirst: false,
    mountOptions: 'rw',
  },
  reiserfs: {
    sizeMiB: 80,
    make: 'mkreiserfs -q -f',
    check: 'reiserfsck --check --yes --quiet',
    mountsFirst: true,
    mountOptions: 'rw',
  },
  ext4: {
    sizeMiB: 64,
    make: 'mke2fs -q -t ext4',
    check: 'e2fsck -fn',
    mountsFirst: false,
    mountOptions: 'rw',
  },
  xfs: {
    sizeMiB: 320,
    make: 'mkfs.xfs -q',
    check: 'xfs_repair -n',
    mountsFirst: true,
    mountOptions: 'rw',
  },
  btrfs: {
    sizeMiB: 128,
    make: 'mkfs.btrfs -q',
    check: 'btrfs check --force',
    mountsFirst: false,
    mountOptions: 'rw',
  },
};
type Name = keyof typeof KINDS;
const NAMES = Object.keys(KINDS) as Name[];

let guest: Guest;
let folder: string;

/** Random and compressible files, with the holes of deleted ones between them. */
function fill(mountPoint: string): void {
  guest.run(`
    cd '${mountPoint}'
    mkdir 'a folder' live
    dd if=/dev/urandom of=random bs=1M count=3 2>/dev/null
    yes 'the same line again and again' | dd of=text bs=64k count=24 iflag=fullblock 2>/dev/null
    for i in $(seq 1 24); do dd if=random of="a folder/$i" bs=1000 skip=$i count=$i 2>/dev/null; done
    ln -s ../random 'a folder/link'
    sync
    for i in $(seq 1 4 24); do rm "a folder/$i"; done`);
}

/** Writes numbered files, one after the other, until it is told to stop. */
function startWriter(mountPoint: string): void {
  guest.run(`
    cd '${mountPoint}/live'
    rm -f /tmp/stop
    ( i=0
      while [ ! -e /tmp/stop ]; do i=$((i + 1)); echo "file $i" > $i; echo $i > /tmp/written; sleep 0.02; done
      echo stopped > /tmp/stop ) < /dev/null > /dev/null 2>&1 &
    while [ ! -s /tmp/written ]; do sleep 0.1; done`);
}

function stopWriter(): void {
  guest.run('touch /tmp/stop; until [ -s /tmp/stop ]; do sleep 0.1; done; rm /tmp/written');
}

function written(): number {
  // It is empty for a moment whenever it is written.
  return Number(guest.run('until n=$(cat /tmp/written) && [ -n "$n" ]; do :; done; echo $n'));
}

/** Every file that no writer touches, with its digest. */
function treeOf(mountPoint: string): string {
  return guest.run(`
    cd '${mountPoint}'
    find . -path ./live -prune -o -type f -print0 | xargs -0 sha256sum | sort
    readlink 'a folder/link'`);
}

/** The writer's files must be those of one instant: 1 to N, and only the last may be unfinished. */
function checkLive(mountPoint: string, fewest: number): void {
  const count = Number(
    guest.run(`
    cd '${mountPoint}/live'
    n=$(ls | wc -l)
    for i in $(seq 1 $((n - 1))); do
      read -r line < $i
      [ "$line" = "file $i" ] || { echo "file $i of $n holds: $line" >&2; exit 1; }
    done
    echo $n`),
  );
  assert.ok(count >= fewest, `${count} of at least ${fewest} files`);
}

function pull(...options: string[]): Promise<Ending> {
  const ssh = ['-S', '-F', '-S', guest.sshConfig];
  return startIngot(['snapshot', 'pull', 'ssh://guest', ...ssh, '--json', ...options]).ended;
}

/** Puts an image onto a blank disk of the guest, as a restore does. */
function restore(image: string, disk: string): void {
  const words = [`if=${image}`, `of=${guest.disk(disk).file}`, 'bs=1M', 'conv=notrunc,sparse'];
  execFileSync('dd', [...words, 'status=none']);
  guest.run(`blockdev --flushbufs ${guest.disk(disk).device}`);
}

/** The facts that a capture ends with: the last line of stderr. */
function factsOf(ending: Ending): {
  readonly allocatedBytes: number;
  readonly capture: {
    readonly consistency: string;
    readonly freezeMs: number;
    readonly filesystem: string;
  };
  readonly elapsedMs: number;
  readonly notices: readonly string[];
} {
  assert.equal(ending.status, 0, ending.stderr);
  return JSON.parse(ending.stderr.trim().split('\n').at(-1) ?? '');
}

/** Checks and mounts a copy, and compares every file. */
function compareCopy(name: Name, device: string, wanted: string, fewest: number): void {
  const { check, mountsFirst, mountOptions } = KINDS[name];
  const isClean = (): string =>
    guest.run(`
    # 1: what was wrong is right now.
    repaired_jfs() { fsck.jfs -f -a "$1" || [ $? = 1 ] && fsck.jfs -f -n "$1"; }
    ${check} ${device} >/tmp/check 2>&1 || { cat /tmp/check >&2; exit 1; }`);
  if (!mountsFirst) isClean();
  guest.run(`mkdir -p /copy; mount -t ${name} -o ${mountOptions} ${device} /copy`);
  assert.equal(treeOf('/copy'), wanted);
  checkLive('/copy', fewest);
  guest.run('umount /copy');
  if (mountsFirst) isClean();
}

const missing = guestIsMissing();

describe('snapshot pull from a guest with Debian’s full kernel', { skip: missing ?? false }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-pulled-'));
    const disks = NAMES.flatMap((name) => [
      [name, KINDS[name].sizeMiB * MIB],
      [`${name}-copy`, KINDS[name].sizeMiB * MIB],
    ]);
    guest = await startGuest({
      features: [...NAMES, 'lvm'],
      disks: { ...Object.fromEntries(disks), lvm: 160 * MIB, 'lvm-copy': 64 * MIB },
    });
  });
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const name of NAMES) {
    test(`${name}: an image taken under a running writer has every file, and is clean`, async () => {
      const { make } = KINDS[name];
      const { device } = guest.disk(name);
      guest.run(
        `${make} ${device} >/dev/null; mkdir /${name}; mount -t ${name} ${device} /${name}`,
      );
      fill(`/${name}`);
      startWriter(`/${name}`);
      const fewest = written() - 1;
      const image = join(folder, name);
      const facts = factsOf(await pull('--source', `/${name}`, '-o', image));
      assert.equal(facts.capture.consistency, 'frozen');
      assert.equal(facts.capture.filesystem, name);
      assert.equal(
        facts.notices.some((notice) => notice.includes('fsck.jfs')),
        name === 'jfs',
      );
      stopWriter();
      const wanted = treeOf(`/${name}`);
      guest.run(`umount /${name}`);
      restore(image, `${name}-copy`);
      compareCopy(name, guest.disk(`${name}-copy`).device, wanted, fewest);
    });
  }

  test('LVM: its own snapshot stands in for the freeze, and is gone afterwards', async () => {
    guest.run(`
      pvcreate -q ${guest.disk('lvm').device}
      vgcreate -q vg ${guest.disk('lvm').device}
      lvcreate -q -y -n root -L 64m vg
      mke2fs -q -t ext4 /dev/vg/root
      mkdir /lvm
      mount /dev/vg/root /lvm`);
    fill('/lvm');
    startWriter('/lvm');
    const before = written();
    const image = join(folder, 'lvm');
    const facts = factsOf(await pull('--source', '/lvm', '-o', image));
    assert.equal(facts.capture.consistency, 'frozen');
    assert.ok(facts.capture.freezeMs < facts.elapsedMs / 2, JSON.stringify(facts));
    assert.ok(written() > before, 'the writer went on');
    stopWriter();
    const wanted = treeOf('/lvm');
    assert.equal(guest.run('lvs --noheadings -o lv_name').trim(), 'root');
    guest.run('umount /lvm');
    restore(image, 'lvm-copy');
    compareCopy('ext4', guest.disk('lvm-copy').device, wanted, before - 1);
  });

  test('LVM: the snapshot of a capture that was killed is removed by the device', async () => {
    guest.run('mount /dev/vg/root /lvm');
    using pipe = openPipe(folder);
    const ssh = ['-S', '-F', '-S', guest.sshConfig];
    const words = ['snapshot', 'pull', 'ssh://guest', ...ssh, '--source', '/lvm'];
    const command = startIngot(words, { stdout: pipe.writeEnd });
    pipe.started();
    // Nobody reads on: the capture stands still with its snapshot.
    await pipe.take(1024, 90_000);
    const volumes = (): string => guest.run('lvs --noheadings -o lv_name');
    await eventually('a snapshot', () => (volumes().includes('ingot_') ? true : undefined), 60_000);
    process.kill(command.pid, 'SIGKILL');
    await command.ended;
    await eventually('its end', () => (volumes().includes('ingot_') ? undefined : true), 60_000);
    guest.run('touch /lvm/after; sync; umount /lvm');
  });
});
