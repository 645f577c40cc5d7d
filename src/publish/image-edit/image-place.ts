import { IngotError } from '../../base/index.ts';
import { imagePath } from './filesystem-editor.ts';

/** A path inside an image file: `release.mender:/etc/hosts`. */
export interface ImagePlace {
  readonly image: string;
  readonly path: string;
}

/**
 * Takes `IMAGE:PATH` apart where the image has one of the known endings.
 *
 * @returns undefined when `text` has another form: it is a file of the host then
 * @throws IngotError `path-refused` for a path that cannot be inside an image
 */
export function parseImagePlace(text: string): ImagePlace | undefined {
  const match = /^(.+?\.(?:mender|sdimg|uefiimg|img)):(.+)$/s.exec(text);
  const [, image, path] = match ?? [];
  if (image === undefined || path === undefined) return undefined;
  return { image, path: path.endsWith('/') ? `${imagePath(path)}/` : imagePath(path) };
}

/** Which partitions of a disk with two root filesystems hold a path. */
export type PartitionRole = 'boot' | 'roots' | 'data';

/**
 * Finds the partition of a path, as Mender lays disks out: boot, root A, root B, data.
 *
 * @returns the role, and the path inside that filesystem
 */
export function partitionFor(path: string): {
  readonly role: PartitionRole;
  readonly path: string;
} {
  const boot = /^\/(?:uboot|boot\/(?:efi|grub))(\/.*)$/.exec(path)?.[1];
  if (boot !== undefined) return { role: 'boot', path: boot };
  const data = /^\/data(\/.*)$/.exec(path)?.[1];
  if (data !== undefined) return { role: 'data', path: data };
  return { role: 'roots', path };
}

/**
 * Refuses paths of partitions that an artifact does not carry.
 *
 * @throws IngotError `path-refused`
 */
export function expectRootPath(path: string): void {
  const { role } = partitionFor(`${path}/`);
  if (role !== 'roots') {
    throw new IngotError('path-refused', `an artifact has no ${role} partition for ${path}`, {
      path,
    });
  }
}
