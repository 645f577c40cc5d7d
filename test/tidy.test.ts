import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { importProblems } from '../scripts/import-guard.ts';
import { FAILURES, NODE_FLAGS } from '../src/base/index.ts';

const root = join(import.meta.dirname, '..');

/** Everything that people wrote is far below; a generated reference is the largest. */
const LARGEST_FILE_BYTES = 1024 * 1024;

const flow: string[] = JSON.parse(readFileSync(join(root, 'flow.json'), 'utf8'));
const folders = readdirSync(join(root, 'src'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'web')
  .map((entry) => entry.name);

/** A copy of what the guard reads, so that a planted file never stands in the real tree. */
function copyOfTheFlow(): string {
  const copy = mkdtempSync(join(tmpdir(), 'ingot-guard-'));
  for (const name of [
    'src',
    'flow.json',
    '.dependency-cruiser.cjs',
    'tsconfig.json',
    'package.json',
  ]) {
    cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

describe('the ports', () => {
  test('name suites that exist', () => {
    const named = globSync('src/**/*.ts', { cwd: root }).flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(/`(test\/contracts\/[^`]+)`/g)].map(
        ([, suite]) => suite ?? '',
      ),
    );
    assert.ok(named.length >= 9);
    for (const suite of named) assert.ok(existsSync(join(root, suite)), `${suite} is not there`);
  });
});

describe('the table of faults', () => {
  const rows = readFileSync(join(root, 'docs/faults.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| fault '));

  test('names tests that exist, at least one for each fault', () => {
    assert.ok(rows.length > 20);
    for (const row of rows) {
      let text = '';
      let tests = 0;
      for (const [, file, name] of row.matchAll(/`((?:src|test)\/[^`]+\.ts)`|“([^”]+)”/g)) {
        if (file !== undefined) text = readFileSync(join(root, file), 'utf8');
        if (file !== undefined) tests += 1;
        else assert.ok(text.includes(name ?? ''), `no test has “${name}” in its name`);
      }
      assert.ok(tests > 0, `no test in: ${row}`);
    }
  });
});

describe('the house', () => {
  test('every folder of src is in flow.json and sorts in that order', () => {
    for (const folder of folders) assert.ok(flow.includes(folder), `${folder} is not in flow.json`);
    const inFlow = flow.filter((folder) => folders.includes(folder));
    assert.deepEqual(folders.toSorted(), inFlow.toSorted());
    assert.deepEqual(inFlow, inFlow.toSorted(), 'ls src prints the flow');
  });

  test('every folder of src says what it owns, what it may import and what it never does', () => {
    for (const folder of folders) {
      const text = readFileSync(join(root, 'src', folder, 'README.md'), 'utf8');
      const headings = [...text.matchAll(/^## (.+)$/gm)].map((match) => match[1]);
      assert.deepEqual(headings, ['Owns', 'May import', 'Never'], folder);
    }
  });

  test('the import guard finds nothing', () => {
    assert.deepEqual(importProblems(root), []);
  });

  test('the import guard fires on a planted import that runs against the flow', () => {
    const copy = copyOfTheFlow();
    try {
      // Type-only imports count too: they are how a layer starts to know the next one.
      writeFileSync(
        join(copy, 'src/base/planted.ts'),
        "export type { Segment } from '../bytes/index.ts';\n",
      );
      const problems = importProblems(copy);
      assert.ok(
        problems.some((problem) => problem.startsWith('base-looks-up-only: src/base/planted.ts')),
        problems.join('\n'),
      );
    } finally {
      rmSync(copy, { recursive: true });
    }
  });

  test('the import guard fires when it sees fewer modules than there are', () => {
    const modules = globSync('src/**/*.ts', { cwd: root }).length;
    const problems = importProblems(root, modules + 1000);
    assert.equal(problems.length, 1);
    assert.match(problems[0] ?? '', /^too-few-modules: the guard saw \d+ of \d+ modules$/);
  });

  test('every failure has a heading in docs/reference/errors.md, and back', () => {
    const text = readFileSync(join(root, 'docs/reference/errors.md'), 'utf8');
    const headings = [...text.matchAll(/^### `([a-z-]+)`$/gm)].map((match) => match[1] ?? '');
    assert.deepEqual(headings.toSorted(), Object.keys(FAILURES).toSorted());
  });

  test('no two failures share an exit status, and all lie between 20 and 99', () => {
    const statuses = Object.values(FAILURES).map((failure) => failure.exit);
    assert.equal(new Set(statuses).size, statuses.length);
    for (const status of statuses) assert.ok(status >= 20 && status <= 99, String(status));
  });

  test('relative links in the documentation lead somewhere', () => {
    const pages = globSync(['*.md', 'docs/**/*.md', 'src/**/*.md'], { cwd: root });
    for (const page of pages) {
      const text = readFileSync(join(root, page), 'utf8').replaceAll(/```[\s\S]*?```/g, '');
      for (const match of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)) {
        const target = join(root, page, '..', match[1] ?? '');
        assert.ok(existsSync(target), `${page} links to ${match[1]}`);
      }
    }
  });

  test('no file of the repository is a disk image that somebody left behind', (t) => {
    const listed = spawnSync('git', ['-C', root, 'ls-files', '-z'], { encoding: 'utf8' });
    if (listed.status !== 0) {
      t.skip('this is no git checkout');
      return;
    }
    const large = listed.stdout
      .split('\0')
      .filter((name) => name !== '' && statSync(join(root, name)).size > LARGEST_FILE_BYTES);
    assert.deepEqual(large, []);
  });

  test('no TODO stands in the source', () => {
    for (const file of globSync('{src,test,scripts,bench}/**/*.ts', { cwd: root })) {
      if (file.endsWith('tidy.test.ts')) continue;
      assert.doesNotMatch(readFileSync(join(root, file), 'utf8'), /\b(TODO|FIXME|XXX)\b/, file);
    }
  });

  test('shell entry points pass shellcheck where it is installed', (t) => {
    if (spawnSync('shellcheck', ['--version']).status !== 0) {
      t.skip('shellcheck is not installed');
      return;
    }
    execFileSync(
      'shellcheck',
      [
        '-x',
        '-e',
        'SC1091',
        'bin/ingot',
        'scripts/test',
        'scripts/find-node.sh',
        '.ci/run',
        '.githooks/pre-commit',
      ],
      { cwd: root, stdio: 'pipe' },
    );
  });
});

describe('the entry point', () => {
  test('starts Node with the flags that its children have', () => {
    for (const file of ['bin/ingot', 'src/start/bundle/main.ts']) {
      const text = readFileSync(join(root, file), 'utf8');
      for (const flag of NODE_FLAGS) assert.ok(text.includes(flag), `${flag} in ${file}`);
    }
  });

  test('ingot runs from any folder, also through a link', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ingot-link-'));
    try {
      execFileSync('ln', ['-s', join(root, 'bin/ingot'), join(folder, 'ingot')]);
      const text = execFileSync(join(folder, 'ingot'), ['--version'], {
        cwd: '/',
        encoding: 'utf8',
      });
      assert.match(text, /^\d+\.\d+\.\d+\n$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
