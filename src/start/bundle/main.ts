/**
 * Starts `ingot` from the bundle where there is a fresh one, else from the sources.
 *
 * A thread of a bundled program starts here too: what it runs is in its arguments.
 *
 * @see docs/adr/0009-one-script-for-a-quick-start.md
 */
import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { Script } from 'node:vm';
import { bundleState, codePath, PROGRAM, readList, textPath } from './bundle-file.ts';
import { tellSourceLines } from './bundle-lines.ts';
import { type BundledModules, ModuleLoader } from './bundled-modules.ts';
import { bundledThread, bundledThreads } from './bundled-thread.ts';

const ROOT = join(import.meta.dirname, '../../..');
/** Writing takes half a second. */
const WRITE_LIMIT_MS = 20_000;

/** @returns the id of a bundle that is what the sources are, made now if need be */
async function freshBundle(): Promise<string | undefined> {
  const list = readList(ROOT);
  const state = list === undefined ? 'stale' : bundleState(ROOT, list, Date.now());
  if (state === 'fresh') return list?.id;
  if (state === 'changing') return undefined;
  try {
    accessSync(join(ROOT, 'node_modules'), constants.W_OK);
  } catch {
    // Somebody else's installation, who has not started it since it changed.
    return undefined;
  }
  const { spawnSync } = await import('node:child_process');
  const writer = join(import.meta.dirname, 'write-bundle-process.ts');
  const words = ['--no-maglev', '--disable-warning=ExperimentalWarning', writer];
  spawnSync(process.execPath, words, { stdio: 'ignore', timeout: WRITE_LIMIT_MS });
  const written = readList(ROOT);
  if (written === undefined) return undefined;
  return bundleState(ROOT, written, Date.now()) === 'fresh' ? written.id : undefined;
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** V8's code of what a command used, and how many modules that were. */
interface KeptCode {
  readonly moduleCount: number;
  readonly code: Buffer | undefined;
}

const COUNT_BYTES = 4;

function readCode(path: string): KeptCode {
  const bytes = readIfThere(path);
  if (bytes === undefined || bytes.length < COUNT_BYTES) return { moduleCount: 0, code: undefined };
  return { moduleCount: bytes.readUInt32LE(0), code: bytes.subarray(COUNT_BYTES) };
}

/** Keeps V8's code for the next time. */
function keepCode(script: Script, moduleCount: number, path: string): void {
  try {
    const count = Buffer.alloc(COUNT_BYTES);
    count.writeUInt32LE(moduleCount);
    const partial = `${path}.${process.pid}.partial`;
    writeFileSync(partial, Buffer.concat([count, script.createCachedData()]));
    renameSync(partial, path);
  } catch {
    // A full disk, or no right to write: the next start is slower, and that is all.
  }
}

/** What the code is kept for: each command uses functions of its own. */
function useOf(thread: string | undefined): string {
  if (thread !== undefined) return basename(thread, '.ts');
  const words = process.argv.slice(2, 4).filter((word) => /^[a-z][a-z-]{0,30}$/.test(word));
  return words.length === 0 ? 'help' : words.join('-');
}

/** @returns whether the bundle was there still: a newer one takes the place of an older */
async function runBundled(id: string, thread: string | undefined): Promise<boolean> {
  const entry = thread ?? PROGRAM;
  const name = textPath(ROOT, id, entry);
  // Single bytes: the script holds nothing but ASCII.
  const text = readIfThere(name)?.toString('latin1');
  if (text === undefined) return false;
  const path = codePath(ROOT, id, useOf(thread));
  const kept = readCode(path);
  const script = new Script(text, { filename: name, cachedData: kept.code });
  tellSourceLines(text, name);
  const modules = script.runInThisContext() as BundledModules;
  const has = (file: string): boolean => existsSync(textPath(ROOT, id, file));
  const loader = new ModuleLoader(modules, ROOT, {
    'node:worker_threads': bundledThreads(ROOT, id, has),
  });
  const keepIfMore = (): void => {
    const isKept = script.cachedDataRejected === false && loader.count <= kept.moduleCount;
    if (!isKept) keepCode(script, loader.count, path);
  };
  if (thread === undefined) {
    // Only words that are commands end well, so there are few files.
    process.once('exit', (status) => status === 0 && keepIfMore());
  }
  await loader.run(entry);
  if (thread !== undefined) keepIfMore();
  return true;
}

const thread = bundledThread(process.argv);
// A daemon starts once, and its memory matters for long: a script of everything is 40 MB more.
const isUnbundled = process.argv[2] === 'serve' || process.env['INGOT_BUNDLE'] === 'off';
const id = thread?.id ?? (isUnbundled ? undefined : await freshBundle());
const isRun = id !== undefined && (await runBundled(id, thread?.path));
if (!isRun) await import(thread === undefined ? '../cli/main.ts' : join(ROOT, thread.path));
