/** Writes the pages of docs/reference that are made from the source. `--check` only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAILURES } from '../src/base/index.ts';
import { cliPage } from './cli-page.ts';
import { FAILURE_NOTES } from './failure-notes.ts';
import { openapiPage } from './openapi-page.ts';

const root = join(import.meta.dirname, '..');

const RETRY = {
  never: 'The same call will fail again.',
  'after-fix': 'Try again after mending what it names.',
  later: 'The same call may work later.',
} as const;

function errorsPage(): string {
  const parts = [
    '# Failures',
    '',
    'Everything that Ingot can refuse or fail at, in one table. A command ends with the exit status,',
    'HTTP answers with the status, and `--json` puts code, message, facts and retry advice on the',
    'last line of stderr. Exit 0 is done, 1 a bug, 2 wrong words, 130 cancelled.',
    '',
    '*Made by `npm run docs` from `src/base/errors.ts`.*',
    '',
  ];
  for (const [code, failure] of Object.entries(FAILURES)) {
    parts.push(`### \`${code}\``, '');
    parts.push(`Exit ${failure.exit}, HTTP ${failure.http}. ${RETRY[failure.retry]}`, '');
    parts.push(FAILURE_NOTES[code as keyof typeof FAILURES], '');
  }
  return parts.join('\n');
}

const pages: Readonly<Record<string, string>> = {
  'docs/reference/cli.md': await cliPage(),
  'docs/reference/errors.md': errorsPage(),
  'docs/reference/openapi.json': await openapiPage(),
};

for (const [name, text] of Object.entries(pages)) {
  const path = join(root, name);
  if (!process.argv.includes('--check')) {
    writeFileSync(path, text);
  } else if (readFileSync(path, 'utf8') !== text) {
    process.stderr.write(`${name} is not what the source says; run npm run docs\n`);
    process.exitCode = 1;
  }
}
