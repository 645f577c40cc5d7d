import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { argumentsCalledAs } from './called-as.ts';

describe('a call under another name', () => {
  const cases: readonly [string, readonly string[], readonly string[]][] = [
    ['ingot', ['images', 'list'], ['images', 'list']],
    ['mender-artifact', ['read', 'a.mender'], ['artifact', 'read', 'a.mender']],
    ['mender-artifact', ['-v'], ['--version']],
    ['mender', ['snapshot', 'dump', '-C', 'gzip'], ['snapshot', 'dump', '-C', 'gzip']],
    ['mender', ['--data', '/data', 'snapshot', 'dump'], ['snapshot', 'dump']],
    ['mender', ['--data=/data', 'snapshot', 'dump'], ['snapshot', 'dump']],
    [
      'mender-snapshot',
      ['dump', '--data', '/data', '--source', '/'],
      ['snapshot', 'dump', '--source', '/'],
    ],
    ['brightbox-images', ['show', 'img-y22uq'], ['images', 'show', 'img-y22uq']],
    ['constructor', ['images'], ['images']],
  ];
  for (const [name, args, meant] of cases) {
    test(`${name} ${args.join(' ')} means ingot ${meant.join(' ')}`, () => {
      assert.deepEqual(argumentsCalledAs(name, args), meant);
    });
  }
});
