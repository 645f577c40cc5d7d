import { IngotError, isFailure } from '../../base/index.ts';
import type { FileNode, FileTree } from '../../bytes/index.ts';
import { resolvePath } from './resolve-path.ts';

/** Which package manager keeps the list. */
type PackageManager = 'dpkg' | 'apk' | 'rpm';

/** What an image has installed. */
export interface InstalledPackages {
  readonly manager: PackageManager;
  /** Version by name; undefined for a list that is there but not read. */
  readonly versions: ReadonlyMap<string, string> | undefined;
}

/** One package that is not the same in both images. */
export interface PackageDifference {
  readonly name: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** Debian's list of 3000 packages has 4 MB. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;
const MAX_PACKAGES = 200_000;

const LISTS: readonly { readonly manager: PackageManager; readonly path: string }[] = [
  { manager: 'dpkg', path: '/var/lib/dpkg/status' },
  { manager: 'apk', path: '/lib/apk/db/installed' },
  { manager: 'rpm', path: '/var/lib/rpm/rpmdb.sqlite' },
  { manager: 'rpm', path: '/usr/lib/sysimage/rpm/rpmdb.sqlite' },
  { manager: 'rpm', path: '/var/lib/rpm/Packages' },
];

/**
 * Reads which packages an image has installed.
 *
 * @returns one list for each package manager that is found; rpm's database is named but not read
 */
export async function readPackages(tree: FileTree): Promise<InstalledPackages[]> {
  const found: InstalledPackages[] = [];
  for (const { manager, path } of LISTS) {
    if (found.some((list) => list.manager === manager)) continue;
    const file = await find(tree, path);
    if (file?.kind !== 'file') continue;
    const versions =
      manager === 'rpm' ? undefined : parsePackages(await readText(tree, file, path), manager);
    found.push({ manager, versions });
  }
  return found;
}

/** @returns packages that were added, removed or have another version, sorted by name */
export function diffPackages(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): PackageDifference[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names
    .map((name) => ({ name, before: before.get(name), after: after.get(name) }))
    .filter((difference) => difference.before !== difference.after);
}

/**
 * Parses dpkg's `status` or apk's `installed`: stanzas of `Field: value` lines between empty lines.
 *
 * @see deb-control(5); https://wiki.alpinelinux.org/wiki/Apk_spec
 */
export function parsePackages(text: string, manager: 'dpkg' | 'apk'): Map<string, string> {
  const versions = new Map<string, string>();
  for (const stanza of text.split(/\n{2,}/)) {
    const field = (name: string): string | undefined =>
      new RegExp(`^${name}: *(.*)$`, 'm').exec(stanza)?.[1]?.trim();
    const isDpkg = manager === 'dpkg';
    const name = field(isDpkg ? 'Package' : 'P');
    const version = field(isDpkg ? 'Version' : 'V');
    const isInstalled = !isDpkg || (field('Status') ?? '').endsWith(' installed');
    if (name === undefined || name === '' || version === undefined || !isInstalled) continue;
    // Of a library for two architectures both are installed.
    const architecture = isDpkg ? field('Architecture') : undefined;
    const key = versions.has(name) && architecture !== undefined ? `${name}:${architecture}` : name;
    versions.set(key, version);
    if (versions.size > MAX_PACKAGES) {
      throw new IngotError('filesystem-malformed', `there are more than ${MAX_PACKAGES} packages`);
    }
  }
  return versions;
}

async function find(tree: FileTree, path: string): Promise<FileNode | undefined> {
  try {
    return await resolvePath(tree, path, { followsLast: true });
  } catch (thrown) {
    if (isFailure(thrown, 'file-not-found') || isFailure(thrown, 'path-refused')) return undefined;
    throw thrown;
  }
}

async function readText(tree: FileTree, file: FileNode, path: string): Promise<string> {
  if (file.sizeBytes > MAX_LIST_BYTES) {
    throw new IngotError('filesystem-malformed', `${path} has ${file.sizeBytes} bytes`);
  }
  const pieces: Buffer[] = [];
  for await (const piece of tree.readFile(file)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces).toString('utf8');
}
