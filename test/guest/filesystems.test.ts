import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import { startGuest } from './guest.ts';
import { guestIsMissing } from './guest-packages.ts';

const missing = guestIsMissing();

describe('a guest with Debian’s full kernel', { skip: missing ?? false }, () => {
  test('knows the filesystems that the guides promise, and device-mapper', async () => {
    await using guest = await startGuest({
      features: ['btrfs', 'ext4', 'f2fs', 'jfs', 'lvm', 'reiserfs', 'xfs'],
      disks: { one: 8 * 1024 * 1024 },
    });
    const known = guest.run('cat /proc/filesystems').split(/\s+/);
    for (const name of ['btrfs', 'ext4', 'f2fs', 'jfs', 'reiserfs', 'xfs']) {
      assert.ok(known.includes(name), `${name} is among ${known.join(' ')}`);
    }
    assert.match(guest.run('grep device-mapper /proc/devices'), /device-mapper/);
    assert.equal(guest.run(`blockdev --getsize64 ${guest.disk('one').device}`), '8388608');
    assert.doesNotMatch(guest.console(), /MODULE-FAILED/);
  });
});
