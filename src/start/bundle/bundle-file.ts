import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Where the bundle lies, below the project's folder: beside Node's own cache of parsed sources. */
export const BUNDLE_FOLDER = 'node_modules/.cache/ingot';
/** The list in it. */
export const LIST_NAME = 'bundle.json';

/** A file that the bundle was made of: its path below the project's folder, and how it was then. */
export type BundledSource = readonly [path: string, sizeBytes: number, changedAtMs: number];

/** What the bundle is, and what it was made of. */
export interface BundleList {
  /** Of Node and of the processor: V8 reads no code of another. */
  readonly engine: string;
  /** Name of its files; undefined where these sources cannot be bundled. */
  readonly id: string | undefined;
  readonly sources: readonly BundledSource[];
}

/** This Node on this processor. */
export const ENGINE = `${process.version} ${process.arch}`;

/** @returns undefined for a file that is not there */
export function sourceNow(root: string, path: string): BundledSource | undefined {
  const status = statSync(join(root, path), { throwIfNoEntry: false });
  // The time of change cannot be set, as that of modification can: no edit goes unseen.
  return status === undefined ? undefined : [path, status.size, status.ctimeMs];
}

/** @returns undefined where there is no list, or none that can be read */
export function readList(root: string): BundleList | undefined {
  try {
    return JSON.parse(readFileSync(join(root, BUNDLE_FOLDER, LIST_NAME), 'utf8')) as BundleList;
  } catch {
    return undefined;
  }
}

/** A file that changed so lately may change once more within the same tick of the clock. */
const SETTLED_MS = 2000;

/** Whether a change of the file would be seen. */
export function isSettled([, , changedAtMs]: BundledSource, nowMs: number): boolean {
  return nowMs - changedAtMs >= SETTLED_MS;
}

/**
 * Compares the sources with what they were when the bundle was made.
 *
 * @returns `changing` when somebody is at work, so that a new bundle would be stale at once
 */
export function bundleState(
  root: string,
  { engine, sources }: BundleList,
  nowMs: number,
): 'fresh' | 'stale' | 'changing' {
  if (engine !== ENGINE) return 'stale';
  for (const [path, sizeBytes, changedAtMs] of sources) {
    const now = sourceNow(root, path);
    if (now === undefined) return 'stale';
    if (now[1] !== sizeBytes || now[2] !== changedAtMs) {
      return isSettled(now, nowMs) ? 'stale' : 'changing';
    }
  }
  return 'fresh';
}

/** What commands begin with. */
export const PROGRAM = 'src/start/cli/main.ts';

/**
 * The script that begins with a module: of commands, or of one kind of thread.
 *
 * @param entry the module's path below the project's folder
 */
export function textPath(root: string, id: string, entry: string): string {
  return join(root, BUNDLE_FOLDER, `${id}.${entry.replaceAll(/[^\w-]/g, '_')}.js`);
}

/** The file with V8's code of them, as far as one command used it. */
export function codePath(root: string, id: string, use: string): string {
  return join(root, BUNDLE_FOLDER, `${id}.${use}.code`);
}
