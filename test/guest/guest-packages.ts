/**
 * Debian packages for a test guest: downloaded with apt-get and unpacked into a cache folder, never
 * installed on this machine.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The newest kernel that Debian has: a package without files that depends on the real one. */
const KERNEL_METAPACKAGE = 'linux-image-amd64';

/** @returns why no guest can run on this machine, or undefined when one can */
export function guestIsMissing(): string | undefined {
  if (process.arch !== 'x64') return 'the guest is for x86-64';
  for (const program of ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'sshd', 'busybox', 'ldd']) {
    if (
      spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { env: withSbin() }).status !== 0
    ) {
      return `${program} is not installed`;
    }
  }
  const known = spawnSync('apt-cache', ['show', '--no-all-versions', KERNEL_METAPACKAGE]);
  if (known.status !== 0) return `apt does not know ${KERNEL_METAPACKAGE} (apt-get update)`;
  return undefined;
}

/** @returns this process's environment with the folders of system programs in PATH */
export function withSbin(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
}

/** @returns the name of the real kernel package, for instance `linux-image-6.1.0-56-amd64` */
export function kernelPackage(): string {
  const text = execFileSync('apt-cache', ['depends', KERNEL_METAPACKAGE], { encoding: 'utf8' });
  const name = /Depends: (linux-image-\S+)/.exec(text)?.[1];
  if (name === undefined) throw new Error(`apt-cache knows no kernel behind ${KERNEL_METAPACKAGE}`);
  return name;
}

/**
 * Unpacks a package once and keeps it for the next run.
 *
 * @returns the folder that holds the package's files as they would lie under `/`
 */
export function unpackedPackage(name: string): string {
  const cache = cacheFolder();
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  const work = mkdtempSync(join(cache, '.unpack-'));
  try {
    execFileSync('apt-get', ['download', '-qq', name], {
      cwd: work,
      stdio: ['ignore', 'ignore', 'ignore'],
      timeout: 300_000,
    });
    const archive = readdirSync(work).find((file) => file.endsWith('.deb'));
    if (archive === undefined) throw new Error(`apt-get download ${name} left no package`);
    const files = join(work, 'files');
    execFileSync('dpkg-deb', ['--extract', join(work, archive), files], { timeout: 300_000 });
    renameSync(files, folder);
  } catch (cause) {
    // Another test process may have been faster: then its folder is as good.
    if (!existsSync(folder))
      throw new Error(`the package ${name} could not be unpacked`, { cause });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** A folder of our own: one that somebody else made in the shared /tmp is refused. */
function cacheFolder(): string {
  const folder = join(tmpdir(), `ingot-guest-cache-${process.getuid?.() ?? 0}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const facts = lstatSync(folder);
  if (!facts.isDirectory() || facts.uid !== process.getuid?.()) {
    throw new Error(`${folder} belongs to somebody else`);
  }
  return folder;
}
