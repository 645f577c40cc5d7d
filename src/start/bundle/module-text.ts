import { stripTypeScriptTypes } from 'node:module';

/** Says what a specifier leads to, as a key of the bundle or a name that Node resolves. */
export type Refer = (specifier: string) => string;

/** A module as the text of a function body. */
export interface ModuleText {
  readonly body: string;
  /** Whether it awaits something on its top level. */
  readonly isAsync: boolean;
}

/** As many ends of lines as there were, so that an error's line is the source's line. */
function linesOf(text: string): string {
  return text.replace(/[^\n]/g, '');
}

/** JavaScript of the same lines. Types become blanks, and what was not ASCII in them wide ones. */
function plainText(source: string): string {
  const plain = stripTypeScriptTypes(source);
  if (plain.length !== source.length) throw new Error('types were not replaced one for one');
  return plain.replace(/[\u00a0\u2002]/g, (blank, at: number) =>
    source[at] === blank ? blank : ' ',
  );
}

/** `a, b as c` → pairs of the name outside and the name inside. */
function namesOf(list: string): (readonly [outer: string, inner: string])[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map((item) => {
      const [first = '', second = first] = item.split(/\s+as\s+/);
      return [first, second];
    });
}

/** `import what from 'key'` as a declaration. */
function importText(what: string, key: string): string {
  const clause = what.trim();
  const standard = /^([\w$]+)\s*(?:,\s*|$)/.exec(clause);
  const rest = clause.slice(standard?.[0].length ?? 0);
  const texts = standard === null ? [] : [`const ${standard[1]} = $default(${key});`];
  if (rest.startsWith('*')) texts.push(`const ${rest.replace(/^\*\s*as\s*/, '')} = $load(${key});`);
  if (rest.startsWith('{')) {
    const names = namesOf(rest.slice(1, -1)).map(([outer, inner]) => `${outer}: ${inner}`);
    texts.push(`const { ${names.join(', ')} } = $load(${key});`);
  }
  return texts.join(' ');
}

const FROM = /\s*from\s*['"]([^'"\n]+)['"](?:\s*with\s*\{[^}]*\})?;?/.source;
const IMPORT = new RegExp(`^import\\s+([^'"();]*?)${FROM}`, 'gm');
const IMPORT_ALONE = /^import\s*['"]([^'"\n]+)['"];?/gm;
const EXPORT_NAMES_FROM = new RegExp(`^export\\s*\\{([^}]*)\\}${FROM}`, 'gm');
const EXPORT_ALL_FROM = new RegExp(`^export\\s*\\*${FROM}`, 'gm');
const EXPORT_NAMES = /^export\s*\{([^}]*)\};?/gm;
const EXPORT_DECLARATION =
  /^export\s+(?=(?:(?:async\s+)?function\s*\*?|class|const)\s+([\w$]+)|(?:async\s+)?function\s*\*\s*([\w$]+))/gm;
const IMPORT_LATER = /\bimport\(\s*['"]([^'"\n]+)['"]\s*,?\s*\)/g;
const AWAIT_ON_TOP = /^(?:const [^\n]*= |[\w$.]+ = )?await\b/m;

/**
 * Turns a module into the body of a function, line for line.
 *
 * The function is given `$load` and `$default` (a module, its default export), `$later` (the same
 * for `import()`), `$give` (offers an export), `$giveAll` and `$meta`. It knows the forms that this
 * project's formatter leaves: each `import` and `export` begins a line, and no export is assigned
 * to again. Anything else throws here, or is no JavaScript any more; it is never understood wrongly.
 *
 * @param source TypeScript whose types can be erased, or JavaScript
 * @throws Error when a form is not known
 */
export function moduleText(source: string, refer: Refer): ModuleText {
  const offers: string[] = [];
  const key = (specifier: string): string => JSON.stringify(refer(specifier));
  const offer = (outer: string, value: string): void => {
    offers.push(`$give(${JSON.stringify(outer)}, () => ${value});`);
  };
  const body = plainText(source)
    .replace(
      IMPORT,
      (all, what: string, from: string) => importText(what, key(from)) + linesOf(all),
    )
    .replace(IMPORT_ALONE, (_all, from: string) => `$load(${key(from)});`)
    .replace(EXPORT_NAMES_FROM, (all, names: string, from: string) => {
      // Loaded when somebody asks for the name: an index costs nothing that is not used.
      for (const [inner, outer] of namesOf(names)) offer(outer, `$load(${key(from)}).${inner}`);
      return linesOf(all);
    })
    .replace(EXPORT_ALL_FROM, (all, from: string) => `$giveAll(${key(from)});${linesOf(all)}`)
    .replace(EXPORT_NAMES, (all, names: string) => {
      for (const [inner, outer] of namesOf(names)) offer(outer, inner);
      return linesOf(all);
    })
    .replace(EXPORT_DECLARATION, (_all, name?: string, generator?: string) => {
      offer(name ?? generator ?? '', name ?? generator ?? '');
      return '';
    })
    .replace(IMPORT_LATER, (all, from: string) => `$later(${key(from)})${linesOf(all)}`)
    .replace(/\bimport\.meta\b/g, '$meta');
  const unknown = /^(?:import|export)\b[^\n]*/m.exec(body);
  if (unknown !== null) throw new Error(`a form that the bundle does not know: ${unknown[0]}`);
  return { body: `${offers.join(' ')} ${body}`, isAsync: AWAIT_ON_TOP.test(body) };
}
