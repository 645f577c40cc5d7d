import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { Script } from 'node:vm';
import {
  BUNDLE_FOLDER,
  type BundledSource,
  type BundleList,
  ENGINE,
  isSettled,
  LIST_NAME,
  PROGRAM,
  sourceNow,
  textPath,
} from './bundle-file.ts';
import { moduleText } from './module-text.ts';

/**
 * Packages that nearly every command needs and that come in many files. All users of `zod` are among
 * them or in `src/`: a second copy of it would not know the schemas of the first.
 */
const PACKAGES = [
  '@commander-js/extra-typings',
  'commander',
  'fastify-type-provider-zod',
  'yaml',
  'zod',
];

/** What is installed is told by this file, which every installation writes anew. */
const SETUP_STAMP = 'node_modules/.ingot-setup';

/** Who changes what is written there makes older bundles stale. */
const OWN_FOLDER = 'src/start/bundle';

const THREAD = /new URL\('([^'\n]+\.ts)', import\.meta\.url\)/g;
const REQUIRE = /\brequire\(\s*(['"])([^'"\n]+)\1\s*\)/g;

/** Gathers modules, and what they import, until all are there. */
class Bundle {
  readonly #root: string;
  readonly #texts = new Map<string, string>();
  readonly sources: BundledSource[] = [];
  /** Modules that threads of these modules begin with. */
  readonly threads: string[] = [];

  constructor(root: string) {
    this.#root = root;
  }

  /** @param path of a module below the project's folder */
  add(path: string): void {
    if (this.#texts.has(path)) return;
    this.#texts.set(path, '');
    const source = this.#read(path);
    this.#texts.set(
      path,
      path.endsWith('.ts') || isModule(path, source)
        ? this.#module(path, source)
        : this.#common(path, source),
    );
  }

  /** Counts a file among the sources that is no module of the bundle. */
  watch(path: string): void {
    const source = sourceNow(this.#root, path);
    if (source !== undefined) this.sources.push(source);
  }

  /** The script: an object of all modules. Nothing but ASCII, so that V8 keeps it in single bytes. */
  script(): string {
    const modules = [...this.#texts].map(([path, text]) => `${JSON.stringify(path)}: ${text}`);
    return `({\n${modules.join(',\n')}\n})`.replace(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
  }

  #read(path: string): string {
    const text = readFileSync(join(this.#root, path), 'utf8');
    if (path.startsWith('src/')) this.watch(path);
    return text;
  }

  #module(path: string, source: string): string {
    for (const [, thread = ''] of source.matchAll(THREAD)) {
      this.threads.push(join(dirname(path), thread));
    }
    const { body, isAsync } = moduleText(source, (specifier) => this.#refer(path, specifier));
    const parameters = '$load, $default, $later, $give, $giveAll, $meta';
    return `[0, ${isAsync ? 'async ' : ''}function (${parameters}) { "use strict"; ${body}\n}]`;
  }

  #common(path: string, source: string): string {
    const places: Record<string, string> = {};
    for (const [, , specifier = ''] of source.matchAll(REQUIRE)) {
      places[specifier] = this.#refer(path, specifier);
    }
    return `[1, function (require, module, exports, __filename, __dirname) { ${source}\n}, ${JSON.stringify(places)}]`;
  }

  /** Adds what is imported, if it belongs here; Node loads the rest. */
  #refer(from: string, specifier: string): string {
    if (isBuiltin(specifier)) return `node:${specifier.replace(/^node:/, '')}`;
    const isRelative = specifier.startsWith('.');
    const isHere = PACKAGES.some((name) => `${specifier}/`.startsWith(`${name}/`));
    if (!isRelative && !isHere) return specifier;
    const place =
      isRelative && from.startsWith('src/')
        ? join(this.#root, dirname(from), specifier)
        : createRequire(join(this.#root, from)).resolve(specifier);
    const path = relative(this.#root, place);
    // A file of facts, or of another kind, is Node's to read.
    if (!/\.[cm]?[jt]s$/.test(path)) return `./${path}`;
    this.add(path);
    return path;
  }
}

function isModule(path: string, source: string): boolean {
  return path.endsWith('.mjs') || (!path.endsWith('.cjs') && /^(?:import|export)\b/m.test(source));
}

function writeWhole(path: string, text: string): void {
  const partial = `${path}.${process.pid}.partial`;
  writeFileSync(partial, text);
  renameSync(partial, path);
}

/**
 * Writes the bundle: all modules that commands and their threads are made of, as one script. Where
 * the sources cannot be bundled, only the list is written, and says so.
 *
 * @param nowMs the time, in milliseconds since 1970
 */
export function writeBundle(root: string, nowMs: number): void {
  const own = new Bundle(root);
  own.watch(SETUP_STAMP);
  if (own.sources.length === 0) return;
  for (const name of readdirSync(join(root, OWN_FOLDER))) own.watch(`${OWN_FOLDER}/${name}`);
  const bundles = new Map<string, Bundle>();
  let scripts: Map<string, string> | undefined;
  try {
    scripts = scriptsOf(root, bundles);
  } catch (thrown) {
    process.stderr.write(`${thrown instanceof Error ? thrown.stack : String(thrown)}\n`);
  }
  const sources = [own, ...bundles.values()].flatMap((bundle) => bundle.sources);
  if (!sources.every((source) => isSettled(source, nowMs))) return;
  const folder = join(root, BUNDLE_FOLDER);
  mkdirSync(folder, { recursive: true });
  const id = scripts === undefined ? undefined : idOf(scripts);
  for (const [entry, script] of scripts ?? []) writeWhole(textPath(root, id ?? '', entry), script);
  const unique = new Map(sources.map((source) => [source[0], source]));
  const list: BundleList = { engine: ENGINE, id, sources: [...unique.values()] };
  writeWhole(join(folder, LIST_NAME), JSON.stringify(list));
  // Of older sources: who has them open goes on.
  for (const name of readdirSync(folder)) {
    const isOld = /^[0-9a-f]{24}\./.test(name) && !name.startsWith(`${id ?? ''}.`);
    if (isOld) rmSync(join(folder, name), { force: true });
  }
}

/**
 * Makes the script of commands, and one of each kind of thread: a thread has memory of its own.
 *
 * @param bundles takes what was read, also when a module cannot be understood
 * @returns scripts by the modules that they begin with
 */
function scriptsOf(root: string, bundles: Map<string, Bundle>): Map<string, string> {
  const scripts = new Map<string, string>();
  const entries = [PROGRAM];
  for (const entry of entries) {
    if (bundles.has(entry)) continue;
    const bundle = new Bundle(root);
    bundles.set(entry, bundle);
    bundle.add(entry);
    entries.push(...bundle.threads);
    const script = bundle.script();
    // Whether it is JavaScript still.
    new Script(script);
    scripts.set(entry, script);
  }
  return scripts;
}

function idOf(scripts: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256').update(ENGINE);
  for (const script of scripts.values()) hash.update(script);
  return hash.digest('hex').slice(0, 24);
}
