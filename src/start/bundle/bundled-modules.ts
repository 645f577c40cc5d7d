import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

type Exports = Record<string, unknown>;
type Load = (key: string) => Exports;

/** What a module of the project is called with; `write-bundle-process.ts` writes such functions. */
type ModuleBody = (
  load: Load,
  standard: (key: string) => unknown,
  later: (key: string) => Promise<Exports>,
  give: (name: string, value: () => unknown) => void,
  giveAll: (key: string) => void,
  meta: { readonly url: string; readonly dirname: string; readonly filename: string },
) => void | Promise<void>;

/** What a CommonJS module is called with. */
type CommonBody = (
  this: unknown,
  require: unknown,
  module: { exports: Exports },
  exports: Exports,
  filename: string,
  folder: string,
) => void;

/** All modules of the bundle by their paths below the project's folder. */
export type BundledModules = Readonly<
  Record<
    string,
    | readonly [kind: 0, body: ModuleBody]
    | readonly [kind: 1, body: CommonBody, places: Readonly<Record<string, string>>]
  >
>;

/** Loads modules of a bundle, each once, and all others through Node. */
export class ModuleLoader {
  readonly #modules: BundledModules;
  readonly #root: string;
  readonly #loaded = new Map<string, Exports>();
  readonly #replaced: Readonly<Record<string, Exports>>;
  readonly #require: NodeJS.Require;

  /**
   * @param root the project's folder
   * @param replaced modules that stand for others, by name
   */
  constructor(modules: BundledModules, root: string, replaced: Readonly<Record<string, Exports>>) {
    this.#modules = modules;
    this.#root = root;
    this.#replaced = replaced;
    this.#require = createRequire(join(root, 'package.json'));
  }

  /** How many modules were loaded. */
  get count(): number {
    return this.#loaded.size;
  }

  /** Runs a module of the project, and waits for what it awaits. */
  async run(key: string): Promise<void> {
    await this.#begin(key)[1];
  }

  readonly #load: Load = (key) => this.#loaded.get(key) ?? this.#begin(key)[0];

  readonly #standard = (key: string): unknown => {
    const exports = this.#load(key);
    const isModule = this.#modules[key]?.[0] === 0 || isNamespace(exports);
    return isModule ? exports['default'] : exports;
  };

  readonly #later = (key: string): Promise<Exports> => {
    // As a promise, so that what a module throws is seen where it is awaited.
    return Promise.resolve().then(() => this.#load(key));
  };

  #begin(key: string): [exports: Exports, done: void | Promise<void>] {
    const module = Object.hasOwn(this.#modules, key) ? this.#modules[key] : undefined;
    if (module === undefined) {
      const exports = this.#replaced[key] ?? (this.#require(key) as Exports);
      this.#loaded.set(key, exports);
      return [exports, undefined];
    }
    if (module[0] === 1) return [this.#beginCommon(key, module[1], module[2]), undefined];
    const filename = join(this.#root, key);
    const exports: Exports = {};
    this.#loaded.set(key, exports);
    const give = (name: string, get: () => unknown): void => {
      Object.defineProperty(exports, name, { get, enumerable: true });
    };
    const giveAll = (from: string): void => {
      const others = this.#load(from);
      for (const name of Object.keys(others)) {
        if (name !== 'default' && !Object.hasOwn(exports, name)) give(name, () => others[name]);
      }
    };
    const meta = { url: pathToFileURL(filename).href, dirname: dirname(filename), filename };
    const done = module[1](this.#load, this.#standard, this.#later, give, giveAll, meta);
    return [exports, done];
  }

  #beginCommon(key: string, body: CommonBody, places: Readonly<Record<string, string>>): Exports {
    const filename = join(this.#root, key);
    const module = { exports: {} as Exports };
    this.#loaded.set(key, module.exports);
    let own: NodeJS.Require | undefined;
    const require = (specifier: string): unknown => {
      const place = places[specifier];
      if (
        place !== undefined &&
        (Object.hasOwn(this.#modules, place) || place.startsWith('node:'))
      ) {
        return this.#load(place);
      }
      own ??= createRequire(filename);
      return own(specifier);
    };
    body.call(module.exports, require, module, module.exports, filename, dirname(filename));
    this.#loaded.set(key, module.exports);
    return module.exports;
  }
}

/** Whether Node gave the names of an ECMAScript module. */
function isNamespace(exports: Exports): boolean {
  return exports[Symbol.toStringTag as never] === 'Module';
}
