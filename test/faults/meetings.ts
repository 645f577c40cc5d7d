import { CATALOGUE_READS } from './simulated-library.ts';

/** What operations look at or change: a file, the names in a folder, the catalogue. */
interface Touch {
  readonly thing: string;
  /** `add` meets who looks, but no other `add`: two names in one folder do not concern each other. */
  readonly how: 'look' | 'add' | 'change';
}

/**
 * Knows which operations of an act look at what another act changes, or change what it looks at.
 *
 * Before any other operation a change of acts is the same as one behind it: it need not be tried.
 */
export class Meetings {
  /** By thing and how it is touched: which acts do. */
  readonly #acts = new Map<string, Set<number>>();
  readonly #known = new Set<string>();

  learn(act: number, operation: string): void {
    this.#known.add(operation);
    for (const { thing, how } of touchesOf(operation)) {
      const key = `${how} ${thing}`;
      this.#acts.set(key, (this.#acts.get(key) ?? new Set()).add(act));
    }
  }

  /** Whether an operation may meet another act; one that was never learned may. */
  isOne(act: number, operation: string): boolean {
    if (!this.#known.has(operation)) return true;
    return touchesOf(operation).some(({ thing, how }) =>
      MET_BY[how].some((other) =>
        [...(this.#acts.get(`${other} ${thing}`) ?? [])].some((one) => one !== act),
      ),
    );
  }
}

const MET_BY = {
  look: ['add', 'change'],
  add: ['look', 'change'],
  change: ['look', 'add', 'change'],
} as const;

function touchesOf(operation: string): Touch[] {
  const [verb = '', ...names] = operation.split(' ');
  const [first = ''] = names;
  switch (verb) {
    case 'catalogue':
      return [{ thing: verb, how: CATALOGUE_READS.has(first) ? 'look' : 'change' }];
    case 'list':
      return [{ thing: `names in ${first}`, how: 'look' }];
    case 'open':
    case 'read':
    case 'sizeOf':
      return [{ thing: first, how: 'look' }];
    case 'create':
    case 'remove':
    case 'rename':
      return names.flatMap(touchesOfName);
    case 'append':
    case 'datasync':
    case 'syncFolder':
      // A file that is written has no name yet that anybody looks for; nobody sees a sync.
      return [];
    default:
      // What an act says of itself, such as that it lets go of an image.
      return [{ thing: 'acts', how: 'change' }];
  }
}

function touchesOfName(path: string): Touch[] {
  const file: Touch = { thing: path, how: 'change' };
  const folder = path.slice(0, path.lastIndexOf('/'));
  // Unfinished files are seen where collection removes them, and nowhere else.
  const isSeen = !path.endsWith('.new') || folder.startsWith('manifests/pages/');
  return isSeen ? [file, { thing: `names in ${folder}`, how: 'add' }] : [file];
}
