import { PassThrough } from 'node:stream';
import type { Command } from 'commander';
import { buildProgram } from '../src/start/cli/program.ts';

const WIDTH = 100;

/** Makes docs/reference/cli.md from the commands themselves. */
export async function cliPage(): Promise<string> {
  const stream = new PassThrough();
  const program = await buildProgram({
    stdout: stream,
    stderr: stream,
    stdin: stream,
    env: {},
    signal: new AbortController().signal,
    progress: () => ({ onProgress: () => undefined, [Symbol.dispose]: () => undefined }),
    endedAsAsked: () => undefined,
  });
  const parts = [
    '# The command line',
    '',
    'What every command of `ingot` prints with `--help`. What they have in common stands in',
    '[cli.md](../cli.md), what their statuses mean in [errors.md](errors.md).',
    '',
    '*Made by `npm run docs` from `src/start/cli`.*',
    '',
  ];
  for (const command of allOf(program as unknown as Command)) {
    parts.push(`## ${nameOf(command)}`, '', '```text', helpOf(command).trimEnd(), '```', '');
  }
  return parts.join('\n');
}

function allOf(command: Command): Command[] {
  const inner = command.commands.filter((found) => !['complete', 'help'].includes(found.name()));
  return [command, ...inner.flatMap((found) => allOf(found as Command))];
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    // Whoever makes the page has a terminal of some width, or none.
    getOutHelpWidth: () => WIDTH,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text;
}
