import { IngotError, isFailure } from '../../base/index.ts';
import { type FileNode, type FileTree, parseRpmHeader } from '../../bytes/index.ts';
import { resolvePath } from './resolve-path.ts';
import { findSystemPlaces } from './system-places.ts';

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

/** Reads databases of packages that are no text. */
export interface PackageDatabase {
  /**
   * Yields the header of each package of an rpm database in SQLite's form.
   *
   * @throws IngotError `filesystem-malformed`
   */
  headers(files: {
    readonly main: AsyncIterable<Buffer>;
    /** SQLite's write-ahead log, where there is one. */
    readonly log: AsyncIterable<Buffer> | undefined;
  }): AsyncIterable<Buffer>;
}

interface PackageList {
  readonly manager: PackageManager;
  readonly path: string;
  readonly form: 'text' | 'sqlite' | 'unread';
}

const LISTS: readonly PackageList[] = [
  { manager: 'dpkg', path: '/var/lib/dpkg/status', form: 'text' },
  { manager: 'apk', path: '/lib/apk/db/installed', form: 'text' },
  { manager: 'rpm', path: '/usr/lib/sysimage/rpm/rpmdb.sqlite', form: 'sqlite' },
  { manager: 'rpm', path: '/var/lib/rpm/rpmdb.sqlite', form: 'sqlite' },
  { manager: 'rpm', path: '/usr/lib/sysimage/rpm/Packages.db', form: 'unread' },
  { manager: 'rpm', path: '/var/lib/rpm/Packages.db', form: 'unread' },
  { manager: 'rpm', path: '/var/lib/rpm/Packages', form: 'unread' },
];

/**
 * Reads which packages an image has installed.
 *
 * @returns one list for each package manager that is found; rpm's older databases are named but not
 *   read
 */
export async function readPackages(
  tree: FileTree,
  database: PackageDatabase,
): Promise<InstalledPackages[]> {
  const found: InstalledPackages[] = [];
  const [top] = await findSystemPlaces(tree);
  for (const list of LISTS) {
    const { manager, path } = list;
    if (top === undefined || found.some((known) => known.manager === manager)) continue;
    const file = await find(tree, top.node, path);
    if (file?.kind !== 'file') continue;
    found.push({ manager, versions: await versionsOf(tree, top.node, file, list, database) });
  }
  return found;
}

async function versionsOf(
  tree: FileTree,
  top: FileNode,
  file: FileNode,
  { manager, path, form }: PackageList,
  database: PackageDatabase,
): Promise<ReadonlyMap<string, string> | undefined> {
  if (manager !== 'rpm') return parsePackages(await readText(tree, file, path), manager);
  if (form !== 'sqlite') return undefined;
  const log = await find(tree, top, `${path}-wal`);
  const hasLog = log?.kind === 'file' && log.sizeBytes > 0;
  const found = new Map<string, string[]>();
  let count = 0;
  for await (const header of database.headers({
    main: tree.readFile(file),
    log: hasLog ? tree.readFile(log) : undefined,
  })) {
    const { name, version } = parseRpmHeader(header);
    found.set(name, [...(found.get(name) ?? []), version]);
    count += 1;
    if (count > MAX_PACKAGES) throw tooMany();
  }
  // Kernels are kept in several versions.
  return new Map([...found].map(([name, versions]) => [name, versions.sort().join(', ')]));
}

function tooMany(): IngotError {
  return new IngotError('filesystem-malformed', `there are more than ${MAX_PACKAGES} packages`);
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
    if (versions.size > MAX_PACKAGES) throw tooMany();
  }
  return versions;
}

async function find(tree: FileTree, top: FileNode, path: string): Promise<FileNode | undefined> {
  try {
    return await resolvePath(tree, path, { followsLast: true, top });
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
