import { IngotError } from '../../base/index.ts';
import type { FileNode, FileTree } from '../../bytes/index.ts';
import { listFiles, sortedEntries } from '../image-files/list-files.ts';
import { findSystemPlaces, type SystemPlace } from '../image-files/system-places.ts';
import { GENERALIZE_RULES, type GeneralizeRule } from './rules.ts';

/** One thing to do to a file of an image. */
export interface GeneralizeStep {
  readonly rule: string;
  readonly action: 'remove' | 'remove-directory' | 'empty';
  /** Absolute, in raw bytes. */
  readonly path: Buffer;
  readonly sizeBytes: number;
}

/** Traces of one image that are removed in one go. */
const MAX_STEPS = 500_000;
const EVERYTHING_BELOW = '/**';

/**
 * Finds all traces of a single machine in a filesystem.
 *
 * Links are removed as links and never followed, so nothing outside of the named places is touched.
 *
 * @param keeps names of rules that are left out
 * @returns steps in an order that can be carried out: what is inside a directory before itself
 */
export async function planGeneralize(
  tree: FileTree,
  keeps: readonly string[] = [],
): Promise<GeneralizeStep[]> {
  const steps = new Map<string, GeneralizeStep>();
  const add = (step: GeneralizeStep): void => {
    const key = step.path.toString('latin1');
    if (!steps.has(key)) steps.set(key, step);
    if (steps.size > MAX_STEPS) {
      throw new IngotError(
        'source-unsupported',
        `there are more than ${MAX_STEPS} files to remove`,
      );
    }
  };
  const places = await findSystemPlaces(tree);
  for (const rule of GENERALIZE_RULES) {
    if (keeps.includes(rule.name)) continue;
    for (const action of ['remove', 'empty'] as const) {
      for (const pattern of rule[action] ?? []) {
        for (const place of places) {
          if (!pattern.startsWith(`${place.mountedAt}/`)) continue;
          const below = pattern.slice(place.mountedAt.length);
          for await (const step of stepsOf(tree, place, { rule, action, pattern: below })) {
            add(step);
          }
        }
      }
    }
  }
  return [...steps.values()];
}

/** What is looked for, and what is done to it. */
interface Search {
  readonly rule: GeneralizeRule;
  readonly action: 'remove' | 'empty';
  readonly pattern: string;
}

async function* stepsOf(
  tree: FileTree,
  top: SystemPlace,
  { rule, action, pattern }: Search,
): AsyncGenerator<GeneralizeStep, void, undefined> {
  const isDeep = pattern.endsWith(EVERYTHING_BELOW);
  const names = pattern.split('/').slice(1, isDeep ? -1 : undefined);
  for await (const { node, path } of matches(tree, top.node, names, top.path)) {
    if (isDeep) {
      if (node.kind === 'directory') yield* below(tree, rule, action, { node, path });
    } else if (node.kind !== 'directory') {
      yield* oneStep(rule, action, { node, path });
    }
  }
}

interface Found {
  readonly node: FileNode;
  readonly path: Buffer;
}

const SLASH = Buffer.from('/');

/** Yields what a pattern names below a directory. */
async function* matches(
  tree: FileTree,
  directory: FileNode,
  names: readonly string[],
  path: Buffer,
): AsyncGenerator<Found, void, undefined> {
  const [name, ...rest] = names;
  if (directory.kind !== 'directory') return;
  if (name === undefined) {
    // Everything below the place itself.
    yield { node: directory, path };
    return;
  }
  const wanted = namePattern(name);
  for (const [entry, inode] of await sortedEntries(tree, directory)) {
    if (!wanted.test(entry)) continue;
    const found = {
      node: await tree.node(inode),
      path: Buffer.concat([path, SLASH, Buffer.from(entry, 'latin1')]),
    };
    if (rest.length === 0) yield found;
    else yield* matches(tree, found.node, rest, found.path);
  }
}

/** Matches one name, as bytes in latin1. */
function namePattern(name: string): RegExp {
  const source = name.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&').replaceAll('*', '[^]*');
  return new RegExp(`^${source}$`);
}

async function* below(
  tree: FileTree,
  rule: GeneralizeRule,
  action: 'remove' | 'empty',
  { node, path }: Found,
): AsyncGenerator<GeneralizeStep, void, undefined> {
  const directories: GeneralizeStep[] = [];
  for await (const listed of listFiles(tree, node, { isRecursive: true })) {
    const full = Buffer.concat([path, ...listed.path.flatMap((name) => [SLASH, name])]);
    if (listed.node.kind !== 'directory') {
      yield* oneStep(rule, action, { node: listed.node, path: full });
    } else if (action === 'remove') {
      directories.push({ rule: rule.name, action: 'remove-directory', path: full, sizeBytes: 0 });
    }
  }
  // A directory was listed before what it holds.
  yield* directories.reverse();
}

function* oneStep(
  rule: GeneralizeRule,
  action: 'remove' | 'empty',
  { node, path }: Found,
): Generator<GeneralizeStep, void, undefined> {
  const isDone = action === 'empty' && (node.kind !== 'file' || node.sizeBytes === 0);
  if (!isDone) yield { rule: rule.name, action, path, sizeBytes: node.sizeBytes };
}
