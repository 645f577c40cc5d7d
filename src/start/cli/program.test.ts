import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, test } from 'node:test';
import type { Command } from 'commander';
import { runCli } from '../../../test/fakes/cli-run.ts';
import { startMemoryDaemon } from '../../../test/fakes/memory-daemon.ts';
import { buildProgram } from './program.ts';

const stream = new PassThrough();
const program = (await buildProgram({
  stdout: stream,
  stderr: stream,
  stdin: stream,
  env: {},
  signal: new AbortController().signal,
  progress: () => ({ onProgress: () => undefined, [Symbol.dispose]: () => undefined }),
  endedAsAsked: () => undefined,
})) as unknown as Command;

function leaves(command: Command): Command[] {
  if (command.commands.length === 0) return [command];
  return command.commands.flatMap((inner) => leaves(inner as Command));
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

describe('the command line', () => {
  test('every command shows an example in its help', () => {
    const without = leaves(program)
      .filter((command) => !['complete', 'help'].includes(command.name()))
      .filter((command) => !/^Examples?:/m.test(helpOf(command)))
      .map(nameOf);
    assert.deepEqual(without, []);
  });

  test('everything that lists or shows takes --json', () => {
    const without = leaves(program)
      .filter((command) => ['list', 'show', 'stats', 'doctor', 'verify'].includes(command.name()))
      .filter((command) => !command.options.some((option) => option.long === '--json'))
      .map(nameOf);
    assert.deepEqual(without, []);
  });

  test('a word that is no command ends with 2 and a suggestion', async () => {
    const { status, stderr } = await runCli(['imagse', 'list'], {});
    assert.equal(status, 2);
    assert.match(stderr, /Did you mean images\?/);
  });

  test('a command that is called wrongly names its own help', async () => {
    const { status, stderr } = await runCli(['images', 'show'], {});
    assert.equal(status, 2);
    assert.match(stderr, /^\(ingot images show --help shows what there is\)$/m);
  });
});

describe('ingot completion', () => {
  test('prints a script for each shell', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { status, stdout } = await completed(['completion', shell]);
      assert.equal(status, 0);
      assert.match(stdout, /ingot/);
    }
  });

  test('suggests commands, and ids of images that the daemon has', async () => {
    await using daemon = await startMemoryDaemon();
    const { id } = daemon.backend.add(Buffer.alloc(10), { name: 'web' });
    const commands = await completed(['complete', '--', 'images', ''], daemon.env);
    assert.match(commands.stdout, /^download\t/m);
    const ids = await completed(['complete', '--', 'images', 'show', ''], daemon.env);
    assert.match(ids.stdout, new RegExp(`^${id}\tweb$`, 'm'));
    const without = await completed(['complete', '--', 'images', 'show', ''], {});
    assert.equal(without.status, 0);
    assert.doesNotMatch(without.stdout, /img-/);
  });
});

describe('ingot doctor', () => {
  test('tells what is here, what is missing and what gets it', async () => {
    await using daemon = await startMemoryDaemon();
    const { status, stdout } = await runCli(['doctor', '--json', '--data', '/tmp'], {
      ...daemon.env,
      PATH: '/nowhere',
    });
    assert.ok(status === 0 || status === 57, String(status));
    const findings = JSON.parse(stdout) as { name: string; isOk: boolean; fix?: string }[];
    const names = findings.map(({ name }) => name);
    for (const name of ['root', 'freeze', 'loop', 'ISA-L', 'qemu', 'ssh', 'space', 'daemon']) {
      assert.ok(names.includes(name), name);
    }
    assert.ok(findings.find(({ name }) => name === 'daemon')?.isOk);
    for (const { name, isOk, fix } of findings) assert.ok(isOk || fix !== undefined, name);
    const away = await runCli(['doctor'], { INGOT_DATA: '/tmp' });
    assert.equal(away.status, 57);
    assert.match(away.stdout, /^missing {2}daemon /m);
  });
});

/** The library of completions writes to the process's own stdout. */
async function completed(argv: string[], env: Readonly<Record<string, string>> = {}) {
  const lines: string[] = [];
  const { log } = console;
  console.log = (...words: unknown[]) => lines.push(words.join(' '));
  try {
    const { status } = await runCli(argv, env);
    return { status, stdout: lines.join('\n') };
  } finally {
    console.log = log;
  }
}
