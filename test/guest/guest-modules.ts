/** Finds kernel modules in an unpacked kernel package, with everything that they depend on. */
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** A module to load, in the order of the list that it stands in. */
export interface GuestModule {
  readonly name: string;
  readonly path: string;
}

/**
 * Lists modules and their dependencies, dependencies first.
 *
 * The package has no `modules.dep` (depmod makes it at installation), so the names are read from
 * each module's own `depends=` field.
 *
 * @param kernelFolder the unpacked kernel package
 * @param wanted module names as modprobe takes them; those built into the kernel are passed over
 */
export function modulesInLoadOrder(kernelFolder: string, wanted: readonly string[]): GuestModule[] {
  const pathOf = new Map<string, string>();
  for (const path of globSync('lib/modules/*/kernel/**/*.ko', { cwd: kernelFolder })) {
    pathOf.set(moduleName(basename(path, '.ko')), join(kernelFolder, path));
  }
  const ordered = new Map<string, GuestModule>();
  const visit = (name: string): void => {
    const path = pathOf.get(name);
    if (path === undefined || ordered.has(name)) return;
    for (const needed of dependenciesOf(path)) visit(needed);
    ordered.set(name, { name, path });
  };
  for (const name of wanted) visit(moduleName(name));
  return [...ordered.values()];
}

/** Module names write `-` and `_` alike. */
function moduleName(text: string): string {
  return text.replaceAll('-', '_');
}

function dependenciesOf(path: string): string[] {
  const text = readFileSync(path).toString('latin1');
  const start = text.indexOf('\0depends=');
  if (start < 0) return [];
  const from = start + '\0depends='.length;
  const list = text.slice(from, text.indexOf('\0', from));
  return list
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName);
}
