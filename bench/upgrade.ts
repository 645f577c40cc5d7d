/**
 * Upgrades packages of a mounted tree in place, in the way in which apt and dpkg do it.
 *
 * What is written, and why:
 *
 * - apt loads the packages as compressed archives and removes them afterwards: what they held stays
 *   in free blocks. It takes longer over the network than the kernel keeps them to itself (30 s), so
 *   they are synced here.
 * - Every file of an upgraded package is unpacked anew as `FILE.dpkg-new`, then synced, and takes its
 *   name by a rename, changed or not: all its blocks lie elsewhere afterwards, its directories and
 *   inode tables are written, and each sync writes to the journal. (dpkg does so unless it is told
 *   `--force-unsafe-io`, as installers do: a first installation here does not sync.)
 * - Programs and libraries are compiled again: all their bytes are others. Of the rest one file in
 *   ten was patched, and the changelog of each package has a new entry; the others are the same.
 * - dpkg writes the `.list` and `.md5sums` of the package anew, and `status` as a whole, keeping the
 *   last one as `status-old`.
 * - `apt update` before it replaces the lists of the security and update suites (the main suite
 *   changes at a point release only); `apt clean` after it leaves no caches.
 * - Triggers write `ld.so.cache` anew; logs of apt, dpkg and the system grow; some settings are
 *   edited; and files that are read change their access times (relatime), as in a day of running.
 *
 * Left out: kernels and initial RAM disks, which are new from end to end for every tool.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { constants, gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import type { Package } from './packages.ts';

/** One file in so many that is no program was patched. */
const PATCHED_DIVISOR = 10;
/** Files of a running server that are read on a day. */
const FILES_READ = 2000;

/** What an upgrade is made of. */
export interface Upgrade {
  /** Where the tree is mounted; packages lie in it as on this machine. */
  readonly root: string;
  /** All packages that the tree has. */
  readonly installed: readonly Package[];
  readonly upgraded: readonly Package[];
  readonly added: readonly Package[];
  /** Packages that the tree has not, whose programs stand for what a compiler made anew. */
  readonly fresh: readonly Package[];
}

/** Unpacks packages as a first installation does, with the database of dpkg about them. */
export function installPackages(root: string, packages: readonly Package[]): void {
  for (const { name, files } of packages) {
    for (const { path } of files) unpack(join(root, path), readFileSync(path));
    copyDatabase(root, name, 0);
  }
  writeStatus(root, packages, new Set());
}

/** Upgrades packages and adds new ones. */
export function upgradePackages(upgrade: Upgrade): void {
  const { root, installed, upgraded, added, fresh } = upgrade;
  updateLists(root);
  const programs = freshPrograms(fresh);
  const contents = new Map<string, Unpacked[]>();
  for (const { name, files } of upgraded) {
    const unpacked = files.map(({ path }) => {
      const target = join(root, path);
      return { target, content: upgradedContent(path, readFileSync(target), programs) };
    });
    contents.set(name, unpacked);
    writeArchive(root, name, unpacked);
  }
  syncFilesystem(root);
  const done = new Set<string>();
  for (const { name } of upgraded) {
    unpackSynced(contents.get(name) ?? []);
    copyDatabase(root, name, 1);
    done.add(name);
    writeStatus(root, installed, done);
    log(root, 'dpkg.log', `upgrade ${name}\nstatus unpacked ${name}\nstatus installed ${name}\n`);
  }
  for (const item of added) {
    unpackSynced(
      item.files.map(({ path }) => ({ target: join(root, path), content: readFileSync(path) })),
    );
    copyDatabase(root, item.name, 0);
  }
  rmSync(join(root, ARCHIVES), { recursive: true });
  writeStatus(root, [...installed, ...added], done);
  unpack(join(root, 'etc/ld.so.cache'), cacheOf(root));
  log(root, 'apt/history.log', `Upgrade: ${[...done].join(', ')}\n`);
  log(root, 'apt/term.log', [...done].map((name) => `Setting up ${name} ...\n`).join(''));
}

/** A day on a running machine: logs grow, settings are edited, files are read. */
export function runForADay(root: string, packages: readonly Package[]): void {
  for (const [i, name] of ['syslog', 'auth.log', 'kern.log', 'daemon.log', 'journal'].entries()) {
    const lines = Array.from({ length: 20_000 }, (_, n) => `${i} ${n} event ${(n * 31) % 977}\n`);
    log(root, name, lines.join(''));
  }
  const files = packages.flatMap((item) => item.files);
  for (let i = 0; i < FILES_READ; i++) {
    const path = files[(i * 104_729) % files.length]?.path;
    if (path !== undefined && existsSync(join(root, path))) readFileSync(join(root, path));
  }
  for (let i = 0; i < 40; i++) {
    const path = join(root, `etc/edited-${i}.conf`);
    const before = existsSync(path) ? readFileSync(path, 'utf8') : '';
    // Editors write a new file, which takes the name.
    unpack(path, Buffer.from(`${before}setting ${i} = on\n`));
  }
}

/** Copies the lists of packages that apt has; of W1 as they are, later as a new day has them. */
export function installLists(root: string): void {
  for (const name of aptLists()) {
    unpack(join(root, 'var/lib/apt/lists', name), readFileSync(join(LISTS, name)));
  }
}

const LISTS = '/var/lib/apt/lists';
const ARCHIVES = 'var/cache/apt/archives';
/** About as small as xz makes packages. */
const ARCHIVE_LEVEL = { [constants.ZSTD_c_compressionLevel]: 15 };
const DATABASE = 'var/lib/dpkg';
const INFO_ENDS = [
  'list',
  'md5sums',
  'triggers',
  'shlibs',
  'symbols',
  'postinst',
  'prerm',
  'postrm',
];

function aptLists(): string[] {
  if (!existsSync(LISTS)) return [];
  return readdirSync(LISTS).filter((name) => name.includes('_'));
}

function updateLists(root: string): void {
  for (const name of aptLists().filter((list) => /security|updates/.test(list))) {
    const target = join(root, 'var/lib/apt/lists', name);
    // They come compressed: one new entry changes all that follows.
    unpack(target, Buffer.from(readFileSync(target).map((byte) => byte ^ 0x55)));
  }
}

interface Unpacked {
  readonly target: string;
  readonly content: Buffer;
}

/** The files of one package: all are written, then all synced and renamed. */
function unpackSynced(files: readonly Unpacked[]): void {
  for (const { target, content } of files) {
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(`${target}.dpkg-new`, content);
  }
  for (const { target } of files) {
    const file = openSync(`${target}.dpkg-new`, 'r+');
    fsyncSync(file);
    closeSync(file);
    renameSync(`${target}.dpkg-new`, target);
  }
}

/** Archives are compressed as packages are, so nothing finds their content again. */
function writeArchive(root: string, name: string, files: readonly Unpacked[]): void {
  const path = join(root, ARCHIVES, `${name}.deb`);
  mkdirSync(dirname(path), { recursive: true });
  const content = Buffer.concat(files.map((file) => file.content));
  writeFileSync(path, zstdCompressSync(content, { params: ARCHIVE_LEVEL }));
}

/** Without it, files that are removed soon would never reach the disk. */
function syncFilesystem(root: string): void {
  const done = spawnSync('sync', ['-f', root]);
  if (done.status !== 0) throw new Error(`syncing ${root} ended with ${done.status}`);
}

function unpack(target: string, content: Buffer): void {
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(`${target}.dpkg-new`, content);
  renameSync(`${target}.dpkg-new`, target);
}

function log(root: string, name: string, lines: string): void {
  const path = join(root, 'var/log', name);
  mkdirSync(dirname(path), { recursive: true });
  appendFileSync(path, lines);
}

/** @param version 0 as this machine has it; later ones differ in a line of each list of digests */
function copyDatabase(root: string, name: string, version: number): void {
  for (const end of INFO_ENDS) {
    const source = join('/', DATABASE, `info/${name}.${end}`);
    if (!existsSync(source)) continue;
    const text = readFileSync(source, 'utf8');
    const isChanged = version > 0 && end === 'md5sums';
    const now = isChanged
      ? text.replaceAll(/^[0-9a-f]{4}/gm, (hex) => hex.split('').reverse().join(''))
      : text;
    unpack(join(root, DATABASE, `info/${name}.${end}`), Buffer.from(now));
  }
}

/** dpkg writes all of it for each change, and keeps the last one. */
function writeStatus(
  root: string,
  packages: readonly Package[],
  upgraded: ReadonlySet<string>,
): void {
  const path = join(root, DATABASE, 'status');
  const texts = packages.flatMap(({ name }) => {
    const text = machineStatus().get(name.split(':')[0] ?? name);
    if (text === undefined) return [];
    return [upgraded.has(name) ? text.replace(/^(Version: .*)$/m, '$1+security1') : text];
  });
  if (existsSync(path)) unpack(`${path}-old`, readFileSync(path));
  unpack(path, Buffer.from(`${texts.join('\n\n')}\n`));
}

let status: ReadonlyMap<string, string> | undefined;

/** The stanzas of this machine's packages, by name. */
function machineStatus(): ReadonlyMap<string, string> {
  status ??= new Map(
    readFileSync(join('/', DATABASE, 'status'), 'utf8')
      .split(/\n{2,}/)
      .map((stanza) => [nameOf(stanza), stanza.trimEnd()]),
  );
  return status;
}

function nameOf(stanza: string): string {
  return /^Package: (.*)$/m.exec(stanza)?.[1] ?? '';
}

const ELF = Buffer.from('\x7fELF', 'latin1');

/** Gives bytes of programs, one after the other, for ever. */
function* freshPrograms(packages: readonly Package[]): Generator<Buffer, never, undefined> {
  const paths = packages.flatMap(({ files }) => files.map(({ path }) => path));
  for (;;) {
    for (const path of paths) {
      const bytes = readFileSync(path);
      if (bytes.subarray(0, 4).equals(ELF)) yield bytes;
    }
  }
}

function upgradedContent(path: string, old: Buffer, programs: Iterator<Buffer>): Buffer {
  if (old.subarray(0, 4).equals(ELF)) return recompiled(old.length, programs);
  if (/\/changelog[^/]*\.gz$/.test(path)) {
    const entry = Buffer.from(`package (2) stable-security; urgency=high\n\n  * Fix ${path}.\n\n`);
    return gzipSync(Buffer.concat([entry, gunzipSync(old)]), { level: 9 });
  }
  const rank = createHash('sha256').update(`patched\0${path}`).digest().readUInt32BE(0);
  if (rank % PATCHED_DIVISOR !== 0) return old;
  const middle = Math.floor(old.length / 2);
  const patch = Buffer.from('# patched: lengths are checked first\n');
  return Buffer.concat([old.subarray(0, middle), patch, old.subarray(middle)]);
}

function recompiled(lengthBytes: number, programs: Iterator<Buffer>): Buffer {
  const pieces: Buffer[] = [];
  for (let rest = lengthBytes; rest > 0; ) {
    const piece = (programs.next().value ?? Buffer.alloc(rest)).subarray(0, rest);
    pieces.push(piece);
    rest -= piece.length;
  }
  return Buffer.concat(pieces);
}

/** The names of all libraries, as ldconfig collects them; a new number in each line. */
function cacheOf(root: string): Buffer {
  const folder = join(root, 'usr/lib/x86_64-linux-gnu');
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return Buffer.from(
    names.map((name, i) => `${i} ${name} /lib/x86_64-linux-gnu/${name}\0`).join(''),
  );
}
