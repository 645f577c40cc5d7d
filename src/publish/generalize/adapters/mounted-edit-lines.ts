import type { GeneralizeStep } from '../plan.ts';

/** What the program is to mount. */
export interface MountRequest {
  /** Absolute; a file of our own. */
  readonly file: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly filesystem: 'xfs' | 'btrfs';
  /** An empty folder of our own. */
  readonly mountPoint: string;
  /** The mount namespace in which the program must not be. */
  readonly outerNamespace: string;
}

/** A step as the program needs it. */
export type EditStep = Pick<GeneralizeStep, 'action' | 'path'>;

/** What the program says. */
export type EditAnswer =
  | { readonly state: 'mounted' | 'done' }
  | { readonly state: 'failed'; readonly words: string; readonly errno: string };

/** Gives the arguments of `mount`; nothing of the image can be run or opened as a device. */
export function mountArguments({
  file,
  offsetBytes,
  sizeBytes,
  filesystem,
  mountPoint,
}: MountRequest): string[] {
  const place = `loop,offset=${offsetBytes},sizelimit=${sizeBytes}`;
  // A copy of a filesystem that is mounted here has the same id, which XFS alone would refuse.
  // Paths of steps begin at the outermost directory, whatever subvolume a mount would show.
  const own = filesystem === 'xfs' ? ',nouuid' : ',subvolid=5';
  const options = `${place},nosuid,nodev,noexec,nosymfollow${own}`;
  return ['-t', filesystem, '-o', options, '--', file, mountPoint];
}

/** Writes a step as a line; names are any bytes, so they go as hex. */
export function stepLine({ action, path }: EditStep): string {
  return `${JSON.stringify({ action, path: path.toString('hex') })}\n`;
}

/** Reads what {@link stepLine} wrote. @throws Error */
export function parseStep(message: unknown): EditStep {
  const { action, path } = message as { readonly action?: unknown; readonly path?: unknown };
  const isKnown = action === 'remove' || action === 'remove-directory' || action === 'empty';
  if (!isKnown || typeof path !== 'string') throw new Error('a step is malformed');
  return { action, path: Buffer.from(path, 'hex') };
}
