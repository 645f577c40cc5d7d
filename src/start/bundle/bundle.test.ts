import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BUNDLE_FOLDER, bundleState, PROGRAM, readList, textPath } from './bundle-file.ts';
import { writeBundle } from './write-bundle.ts';

const ROOT = join(import.meta.dirname, '../../..');
/** By then every file of the copy has settled. */
const LATER = Date.now() + 3_600_000;

describe('the bundle', () => {
  let copy = '';
  before(() => {
    copy = mkdtempSync(join(tmpdir(), 'ingot-bundle-'));
    cpSync(join(ROOT, 'src'), join(copy, 'src'), { recursive: true });
    cpSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
    mkdirSync(join(copy, 'node_modules'));
    for (const name of readdirSync(join(ROOT, 'node_modules'))) {
      if (name.startsWith('.')) continue;
      symlinkSync(join(ROOT, 'node_modules', name), join(copy, 'node_modules', name));
    }
    writeFileSync(join(copy, 'node_modules/.ingot-setup'), 'for this test\n');
  });
  after(() => rmSync(copy, { recursive: true, force: true }));

  const run = (...words: string[]) =>
    spawnSync(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', join(copy, 'src/start/bundle/main.ts'), ...words],
      { encoding: 'utf8', timeout: 60_000, env: { ...process.env, HOME: copy } },
    );
  const edit = (path: string, change: (text: string) => string): void => {
    const file = join(copy, path);
    writeFileSync(file, change(readFileSync(file, 'utf8')));
  };

  test('gives what the sources give, threads included', () => {
    writeBundle(copy, LATER);
    const image = join(copy, 'root.img');
    writeFileSync(image, Buffer.alloc(17 * 1024 * 1024, 'a file'));
    const artifact = join(copy, 'a.mender');
    const write = ['artifact', 'write', 'rootfs-image', '-f', image, '-n', 'a', '-c', 'b'];
    write.push('--compression', 'none', '--no-progress');
    assert.equal(run(...write, '-o', artifact).stderr, '');
    const bundled = readFileSync(artifact);
    const kept = readdirSync(join(copy, BUNDLE_FOLDER)).map((name) => name.split('.')[1]);
    assert.ok(kept.includes('artifact-write') && kept.includes('file-digest-worker'), kept.join());
    const list = readList(copy);
    rmSync(textPath(copy, list?.id ?? '', PROGRAM));
    assert.equal(run(...write, '-o', artifact).stderr, '');
    assert.ok(bundled.equals(readFileSync(artifact)));
  });

  test('is not used once a source has changed', () => {
    writeBundle(copy, LATER);
    const before = Date.now();
    edit('src/start/cli/commands/version.ts', (text) => text.replace('`ingot $', '`changed $'));
    const list = readList(copy);
    assert.ok(list !== undefined);
    assert.equal(bundleState(copy, list, before), 'changing');
    assert.equal(bundleState(copy, list, LATER), 'stale');
    assert.match(run('version').stdout, /^changed /);
    writeBundle(copy, LATER);
    assert.match(run('version').stdout, /^changed /);
    edit('src/start/cli/commands/version.ts', (text) => text.replace('`changed $', '`ingot $'));
  });

  test('is not written while somebody edits', () => {
    const before = readFileSync(join(copy, BUNDLE_FOLDER, 'bundle.json'), 'utf8');
    const beganAt = Date.now();
    edit('src/start/cli/commands/version.ts', (text) => `${text}\n`);
    writeBundle(copy, beganAt);
    assert.equal(readFileSync(join(copy, BUNDLE_FOLDER, 'bundle.json'), 'utf8'), before);
  });

  test('says of sources that it does not understand that they have none, and they run', () => {
    edit('src/start/cli/called-as.ts', (text) => `${text}\nexport let changing = 1;\n`);
    writeBundle(copy, LATER);
    assert.equal(readList(copy)?.id, undefined);
    assert.match(run('version').stdout, /^ingot /);
    edit('src/start/cli/called-as.ts', (text) => text.replace('\nexport let changing = 1;\n', ''));
  });

  test('has a bug tell the line of its source', () => {
    edit('src/start/cli/commands/version.ts', (text) => `${text}\nnull.missing;\n`);
    const lines = readFileSync(join(copy, 'src/start/cli/commands/version.ts'), 'utf8').split('\n');
    writeBundle(copy, LATER);
    const { stderr, status } = run('version');
    assert.equal(status, 1);
    const line = lines.indexOf('null.missing;') + 1;
    assert.ok(stderr.includes(`src/start/cli/commands/version.ts:${line}:6`), stderr);
  });
});
