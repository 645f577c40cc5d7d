/** The packages of this machine, as a source of real files in their real company. */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const INFO = '/var/lib/dpkg/info';
const MIB = 1024 * 1024;

/** What a workload takes: a few giants would make one unlike the next. */
export interface PackageLimits {
  readonly largestFileBytes: number;
  readonly largestPackageBytes: number;
}

/** For workloads that are a part of the machine's packages. */
export const SMALL_PACKAGES: PackageLimits = {
  largestFileBytes: 8 * MIB,
  largestPackageBytes: 48 * MIB,
};

/** For a workload that wants all that the machine has. */
export const ALL_PACKAGES: PackageLimits = {
  largestFileBytes: 512 * MIB,
  largestPackageBytes: 512 * MIB,
};

/** One file of a package. */
interface PackageFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** An installed package and the files of it that workloads may have. */
export interface Package {
  /** As dpkg names its own files: `libc6:amd64`. */
  readonly name: string;
  readonly files: readonly PackageFile[];
  readonly sizeBytes: number;
}

/**
 * Reads all packages of this machine.
 *
 * @throws Error on a machine without dpkg
 */
export function installedPackages(limits: PackageLimits): Package[] {
  return readdirSync(INFO)
    .filter((name) => name.endsWith('.list'))
    .map((name) => readPackage(name.slice(0, -'.list'.length), limits))
    .filter(({ sizeBytes }) => sizeBytes > 0 && sizeBytes <= limits.largestPackageBytes);
}

function readPackage(name: string, { largestFileBytes }: PackageLimits): Package {
  const paths = readFileSync(join(INFO, `${name}.list`), 'utf8').split('\n');
  const files: PackageFile[] = [];
  let sizeBytes = 0;
  for (const path of paths) {
    const stat = path.startsWith('/usr/') ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
    if (stat?.isFile() !== true || stat.size > largestFileBytes) continue;
    files.push({ path, sizeBytes: stat.size });
    sizeBytes += stat.size;
  }
  return { name, files, sizeBytes };
}

/** Puts packages into an order that only the seed and their names decide. */
export function inSeededOrder(packages: readonly Package[], seed: string): Package[] {
  const rank = ({ name }: Package): string =>
    createHash('sha256').update(`${seed}\0${name}`).digest('hex');
  return packages
    .map((item) => ({ item, rank: rank(item) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .map(({ item }) => item);
}

/** Takes packages from the front until they hold `bytes`; none that is a quarter of them alone. */
export function takeBytes(packages: readonly Package[], bytes: number): Package[] {
  const taken: Package[] = [];
  let total = 0;
  for (const item of packages) {
    if (total >= bytes) break;
    if (item.sizeBytes > bytes / 4) continue;
    taken.push(item);
    total += item.sizeBytes;
  }
  return taken;
}

/** @returns packages without these, in the same order */
export function without(packages: readonly Package[], some: readonly Package[]): Package[] {
  const left = new Set(some);
  return packages.filter((item) => !left.has(item));
}
