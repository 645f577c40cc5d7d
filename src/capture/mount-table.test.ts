import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatDeviceNumber, mountOption, parseMountInfo } from './mount-table.ts';

/** Writes a field as the kernel does (seq_path with " \t\n\\#"). */
function escapeField(text: string): string {
  return text.replaceAll(/[ \t\n\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

describe('the mount table', () => {
  test('a row is taken apart, with and without optional fields', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue',
      '22 27 0:21 / /proc rw,relatime - proc proc rw',
      '',
    ].join('\n');
    assert.deepEqual(parseMountInfo(text), [
      {
        mountId: 36,
        device: '98:0',
        root: '/mnt1',
        mountPoint: '/mnt2',
        filesystem: 'ext3',
        source: '/dev/root',
        superOptions: 'rw,errors=continue',
      },
      {
        mountId: 22,
        device: '0:21',
        root: '/',
        mountPoint: '/proc',
        filesystem: 'proc',
        source: 'proc',
        superOptions: 'rw',
      },
    ]);
  });

  test('any mount point comes back as it was, blanks and all', () => {
    const name = fc.string({
      unit: fc.constantFrom('a', ' ', '\t', '\n', '\\', '#', 'ü', '0', '4'),
    });
    fc.assert(
      fc.property(name, (text) => {
        const row = `1 2 8:1 / /${escapeField(text)} rw - ext4 /dev/sda1 rw`;
        assert.equal(parseMountInfo(row)[0]?.mountPoint, `/${text}`);
      }),
    );
  });

  test('rows that break the form are left out', () => {
    assert.deepEqual(parseMountInfo('36 35 98:0 / /mnt rw ext3 /dev/root rw\n- - -\n36\n'), []);
  });

  test('an option with an escaped comma is one option', () => {
    const options = 'rw,lowerdir=/a,upperdir=/b\\,c,workdir=/d';
    assert.equal(mountOption(options, 'upperdir'), '/b,c');
    assert.equal(mountOption(options, 'workdir'), '/d');
    assert.equal(mountOption(options, 'index'), undefined);
  });

  test('device numbers are split as glibc does', () => {
    assert.equal(formatDeviceNumber(0x801n), '8:1');
    assert.equal(formatDeviceNumber(0xfe00n), '254:0');
    // makedev(300, 70000), as C computes it.
    const dev = (70000n & 0xffn) | ((300n & 0xfffn) << 8n) | ((70000n & ~0xffn) << 12n);
    assert.equal(formatDeviceNumber(dev), '300:70000');
  });
});
