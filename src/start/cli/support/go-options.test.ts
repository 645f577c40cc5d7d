import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from '@commander-js/extra-typings';
import { withTwoDashes } from './go-options.ts';

function program(): Command {
  const top = new Command('ingot');
  const artifact = top.command('artifact').option('--compression <how>');
  artifact
    .command('write')
    .command('rootfs-image')
    .option('-o, --output-path <file>')
    .option('-n, --artifact-name <name>')
    .option('-f, --file <file>')
    .option('--no-progress');
  return top;
}

const write = ['artifact', 'write', 'rootfs-image'];
const journeys: Record<string, [given: string[], spelled: string[]]> = {
  'long options with one dash': [
    ['-output-path', 'a.mender', '-no-progress'],
    ['--output-path', 'a.mender', '--no-progress'],
  ],
  'a value behind an equals sign': [['-artifact-name=r-1'], ['--artifact-name=r-1']],
  'an option of a command above': [
    ['-compression', 'none'],
    ['--compression', 'none'],
  ],
  'two dashes and one letter as they are': [
    ['--file', 'x', '-o', 'y', '-n', 'z'],
    ['--file', 'x', '-o', 'y', '-n', 'z'],
  ],
  'a value that looks like an option': [
    ['-n', '-file', '--output-path', '-file'],
    ['-n', '-file', '--output-path', '-file'],
  ],
  'a value joined to its letter': [['-oout.mender'], ['-oout.mender']],
  'what follows two dashes alone': [
    ['--', '-file'],
    ['--', '-file'],
  ],
  'an unknown name': [
    ['-outputs', 'x'],
    ['-outputs', 'x'],
  ],
};

for (const [name, [given, spelled]] of Object.entries(journeys)) {
  test(`Go's spelling of options: ${name}`, () => {
    assert.deepEqual(withTwoDashes(program(), [...write, ...given]), [...write, ...spelled]);
  });
}
