import { IngotError } from '../../base/index.ts';
import { type FileNode, type FileTree, lookUp } from '../../bytes/index.ts';

/** As in the kernel (path_resolution(7)). */
const MAX_LINKS = 40;
/** No path of the kernel is longer, and none needs more steps. */
const MAX_STEPS = 4096;

/**
 * Finds what a path of an image names. Links are followed inside the image only, `..` ends at its
 * top.
 *
 * @param options `followsLast`: whether a link at the end is followed as well; `top`: the directory
 *   that `/` means, the filesystem's own unless given
 * @throws IngotError `file-not-found`, `path-refused` for a path through something that is no
 *   directory or through too many links
 */
export async function resolvePath(
  tree: FileTree,
  path: string,
  { followsLast, top }: { readonly followsLast: boolean; readonly top?: FileNode },
): Promise<FileNode> {
  const root = top ?? (await tree.root());
  const steps = split(Buffer.from(path));
  const mustBeDirectory = path.endsWith('/');
  const parents: FileNode[] = [];
  let here = root;
  let links = 0;
  for (let taken = 0; steps.length > 0; taken++) {
    const step = steps.shift();
    if (step === undefined) break;
    if (taken > MAX_STEPS) throw new IngotError('path-refused', `${path} has too many parts`);
    if (step.equals(DOT)) continue;
    if (step.equals(DOTS)) {
      here = parents.pop() ?? here;
      continue;
    }
    if (here.kind !== 'directory') throw notFound(path);
    const next = await lookUp(tree, here, step);
    if (next === undefined) throw notFound(path);
    const isFollowed = steps.length > 0 || followsLast || mustBeDirectory;
    if (next.kind !== 'symlink' || !isFollowed) {
      parents.push(here);
      here = next;
      continue;
    }
    links += 1;
    if (links > MAX_LINKS)
      throw new IngotError('path-refused', `${path} goes through too many links`);
    const goal = await tree.readLink(next);
    steps.unshift(...split(goal));
    if (goal[0] === SLASH) {
      parents.length = 0;
      here = root;
    }
  }
  if (mustBeDirectory && here.kind !== 'directory') throw notFound(path);
  return here;
}

const SLASH = 0x2f;
const DOT = Buffer.from('.');
const DOTS = Buffer.from('..');

function split(path: Buffer): Buffer[] {
  const steps: Buffer[] = [];
  for (let at = 0; at < path.length; ) {
    const slash = path.indexOf(SLASH, at);
    const end = slash < 0 ? path.length : slash;
    if (end > at) steps.push(path.subarray(at, end));
    at = end + 1;
  }
  return steps;
}

function notFound(path: string): IngotError {
  return new IngotError('file-not-found', `there is no ${path}`, { path });
}
