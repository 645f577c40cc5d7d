import { realpath, stat } from 'node:fs/promises';
import { errnoOf } from '../../../base/index.ts';
import type { RestoreTarget } from '../restore-target.ts';
import { openBlockDeviceTarget } from './block-device-target.ts';
import { openFileTarget } from './file-target.ts';

/** How a restore treats what it is pointed at. */
export interface OpenTargetOptions {
  /** Size of the image. */
  readonly sizeBytes: number;
  /** Whether a file that is there is overwritten where it differs, instead of replaced at the end. */
  readonly inPlace: boolean;
  /** Whether it is only compared. */
  readonly comparesOnly: boolean;
}

/** What a path is, before anything is opened for writing. */
type TargetKind = 'block-device' | 'file' | 'absent';

/**
 * Looks at what a path names, through links.
 *
 * @returns the kind, and the path behind links (`/dev/disk/by-id/…` names a device)
 */
async function inspectTarget(
  path: string,
): Promise<{ readonly kind: TargetKind; readonly realPath: string }> {
  try {
    const realPath = await realpath(path);
    const isDevice = (await stat(realPath)).isBlockDevice();
    return { kind: isDevice ? 'block-device' : 'file', realPath };
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT') throw thrown;
    return { kind: 'absent', realPath: path };
  }
}

/**
 * Opens a device or file for a restore.
 *
 * @throws IngotError `target-in-use`, `target-closed`, `not-root`, `source-not-found`
 */
export async function openRestoreTarget(
  path: string,
  { sizeBytes, inPlace, comparesOnly }: OpenTargetOptions,
): Promise<RestoreTarget> {
  const { kind, realPath } = await inspectTarget(path);
  if (kind === 'block-device')
    return await openBlockDeviceTarget(realPath, { writes: !comparesOnly });
  const mode = comparesOnly ? 'compare' : inPlace ? 'in-place' : 'new';
  return await openFileTarget(realPath, { sizeBytes, mode });
}
