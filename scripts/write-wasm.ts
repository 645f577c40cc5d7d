/**
 * Compiles the coder in `assembly/deflate` into the module of `src/` that holds it. `--check` only
 * compares.
 *
 * It stands in the repository in base64: whoever runs Ingot needs no compiler, and neither a bundle nor
 * a thread has a file to find.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(import.meta.dirname, '..');
const SOURCE = 'assembly/deflate/index.ts';
const TARGET = 'src/keep/adapters/wasm-deflate.ts';

/** A program of its own: its types would change those of arrays for everything that is checked. */
const COMPILER = fileURLToPath(import.meta.resolve('assemblyscript/asc'));
const COMPILER_COMMAND = join(COMPILER, '../../bin/asc.js');

/** Without a garbage collector and without checks that end in a call to the outside. */
const OPTIONS = ['-O3', '--converge', '--noAssert', '--runtime', 'stub'];

function compiled(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-wasm-'));
  try {
    const output = join(folder, 'deflate.wasm');
    const words = [COMPILER_COMMAND, SOURCE, '--outFile', output, ...OPTIONS];
    const run = spawnSync(process.execPath, words, {
      cwd: ROOT,
      encoding: 'utf8',
      timeout: 120_000,
    });
    if (run.status !== 0) throw new Error(`${SOURCE} does not compile: ${run.stderr}`);
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function moduleText(bytes: Buffer): string {
  const base64 = bytes.toString('base64');
  return [
    '/**',
    ` * WebAssembly of \`${SOURCE}\` in base64, ${bytes.byteLength} bytes. Made by \`npm run wasm\`.`,
    ' */',
    'export const DEFLATE_WASM =',
    `  '${base64}';`,
    '',
  ].join('\n');
}

const text = moduleText(compiled());
if (!process.argv.includes('--check')) {
  writeFileSync(join(ROOT, TARGET), text);
} else if (readFileSync(join(ROOT, TARGET), 'utf8') !== text) {
  process.stderr.write(`${TARGET} is not what ${SOURCE} says; run npm run wasm\n`);
  process.exitCode = 1;
}
