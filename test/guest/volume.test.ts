import { strict as assert } from 'node:assert';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Guest, startGuest } from './guest.ts';
import { guestIsMissing } from './guest-packages.ts';

const MIB = 1024 * 1024;

/** The command itself, run in the guest from the source tree of this machine. */
const INGOT = 'node --no-maglev --disable-warning=ExperimentalWarning /ingot/src/start/cli/main.ts';

let guest: Guest;

/** Runs a command in the guest to its end, however slow an emulated machine is. */
function inGuest(command: string): { readonly status: number; readonly said: string } {
  guest.run(`rm -f /tmp/status
    { sh -c '${command}'; echo $? > /tmp/status; } </dev/null >/tmp/said 2>&1 &`);
  for (let tries = 0; tries < 5; tries++) {
    const status = guest.run(`
      for i in $(seq 1 100); do [ ! -s /tmp/status ] || break; sleep 1; done
      cat /tmp/status 2>/dev/null || true`);
    if (status !== '') return { status: Number(status), said: guest.run('cat /tmp/said') };
  }
  throw new Error(`the guest is not done with: ${command}`);
}

const missing = guestIsMissing();

describe('snapshot dump in a guest with device-mapper', { skip: missing ?? false }, () => {
  before(async () => {
    guest = await startGuest({
      features: ['ext4', 'lvm', 'node'],
      disks: { lvm: 160 * MIB, copy: 64 * MIB },
      folders: { ingot: resolve(import.meta.dirname, '../..') },
    });
    guest.run(`
      mkdir -p /ingot /lvm /copy
      mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro ingot /ingot
      pvcreate -q ${guest.disk('lvm').device}
      vgcreate -q vg ${guest.disk('lvm').device}
      lvcreate -q -y -n root -L 64m vg
      mke2fs -q -t ext4 /dev/vg/root
      mount /dev/vg/root /lvm
      mkdir /lvm/still
      for i in $(seq 1 30); do dd if=/dev/urandom of=/lvm/still/$i bs=1000 count=$i 2>/dev/null; done`);
  });
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
  });

  test('LVM: its own snapshot stands in for the freeze of a local volume, and is gone afterwards', () => {
    // The second file follows the first by one write, at any instant.
    guest.run(`
      { n=0; until [ -e /tmp/stop ]; do
        n=$((n + 1)); echo $n > /lvm/new; mv /lvm/new /lvm/first; echo $n > /lvm/new; mv /lvm/new /lvm/second; sleep 0.1
      done; } </dev/null >/dev/null 2>&1 &
      until [ -s /lvm/second ]; do sleep 0.1; done`);
    const copy = guest.disk('copy').device;
    const { status, said } = inGuest(`${INGOT} snapshot dump --source /lvm -o ${copy} --json`);
    assert.equal(status, 0, said);
    const report = JSON.parse(said.trim().split('\n').at(-1) ?? '');
    assert.equal(report.capture.consistency, 'frozen');
    assert.ok(report.capture.freezeMs < report.elapsedMs / 2, said);
    assert.equal(guest.run('lvs --noheadings -o lv_name').trim(), 'root');
    guest.run('touch /tmp/stop');
    const last = Number(guest.run('cat /lvm/first'));
    guest.run(`blockdev --flushbufs ${copy}; e2fsck -fn ${copy} >/tmp/check 2>&1 || { cat /tmp/check >&2; exit 1; }
      mount -o ro ${copy} /copy`);
    const digests = (folder: string): string => guest.run(`cd ${folder}/still; sha256sum * | sort`);
    assert.equal(digests('/copy'), digests('/lvm'));
    const [first = 0, second = 0] = guest
      .run('cat /copy/first /copy/second')
      .split('\n')
      .map(Number);
    assert.ok(first === second || first === second + 1, `${first} and ${second}`);
    assert.ok(last > first, 'the writer stood still');
  });
});
