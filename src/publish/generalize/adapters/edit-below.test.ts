import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { editBelow } from './edit-below.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-edit-'));
const image = join(folder, 'image');
const host = join(folder, 'host');
mkdirSync(join(image, 'etc'), { recursive: true });
mkdirSync(join(host, 'folder'), { recursive: true });
after(() => rmSync(folder, { recursive: true }));

const path = (text: string): Buffer => Buffer.from(text);

test('files are removed and emptied, empty directories removed', () => {
  writeFileSync(join(image, 'etc/a'), 'a');
  writeFileSync(join(image, 'etc/b'), 'b');
  mkdirSync(join(image, 'etc/c'));
  editBelow(image, { action: 'remove', path: path('/etc/a') });
  editBelow(image, { action: 'empty', path: path('/etc/b') });
  editBelow(image, { action: 'remove-directory', path: path('/etc/c') });
  assert.deepEqual(
    ['a', 'b', 'c'].map((name) => existsSync(join(image, 'etc', name))),
    [false, true, false],
  );
  assert.equal(readFileSync(join(image, 'etc/b')).length, 0);
});

test('nothing is reached through a link, upwards, or in place of a file', () => {
  writeFileSync(join(host, 'machine-id'), 'of the host');
  symlinkSync(host, join(image, 'way'));
  symlinkSync(join(host, 'machine-id'), join(image, 'etc/machine-id'));
  spawnSync('mkfifo', [join(image, 'etc/pipe')]);
  for (const [action, name, code] of [
    ['empty', '/way/machine-id', 'ENOTDIR'],
    ['remove', '/way/machine-id', 'ENOTDIR'],
    ['remove-directory', '/way/folder', 'ENOTDIR'],
    ['empty', '/etc/machine-id', 'ELOOP'],
    ['empty', '/etc/pipe', 'ENXIO'],
    ['empty', '/../host/machine-id', undefined],
    ['remove', '', undefined],
  ] as const) {
    assert.throws(
      () => editBelow(image, { action, path: path(name) }),
      (thrown) => thrown instanceof Error && Reflect.get(thrown, 'code') === code,
      `${action} ${name}`,
    );
  }
  assert.equal(readFileSync(join(host, 'machine-id'), 'utf8'), 'of the host');
  assert.ok(existsSync(join(host, 'folder')));
});

test('a link itself is removed, not what it leads to', () => {
  writeFileSync(join(host, 'kept'), 'kept');
  symlinkSync(join(host, 'kept'), join(image, 'link'));
  editBelow(image, { action: 'remove', path: path('/link') });
  assert.equal(readFileSync(join(host, 'kept'), 'utf8'), 'kept');
  assert.equal(existsSync(join(image, 'link')), false);
});
