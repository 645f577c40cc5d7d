import { IngotError } from '../../base/index.ts';

/** Where a filesystem lies: a file, and the byte in it. */
export interface FilesystemPlace {
  readonly file: string;
  readonly offsetBytes: number;
}

/** Permission bits and owner of a file inside an image. */
export interface FileAttributes {
  readonly mode: number;
  readonly userId: number;
  readonly groupId: number;
}

/** What an entry inside an image is. */
type EntryKind = 'file' | 'folder' | 'other';

/** An entry inside an image. */
export interface EditorEntry extends FileAttributes {
  readonly kind: EntryKind;
}

/**
 * Changes files of a filesystem that lies in an image, without mounting it.
 *
 * Paths are absolute and checked by {@link imagePath}. Every implementation promises that a call that
 * returned did what it says: tools that only print their failures are asked again.
 */
export interface FilesystemEditor {
  /** Mends what a crash may have left, as fsck would at boot; before the first change only. */
  prepare(): Promise<void>;
  /** @returns undefined when there is no such entry */
  find(path: string): Promise<EditorEntry | undefined>;
  /** Copies a file out. @throws IngotError `file-not-found` */
  copyOut(path: string, hostFile: string): Promise<void>;
  /**
   * Copies a file in; what was there under its name is replaced.
   *
   * @throws IngotError `file-not-found` when its folder is missing, `target-full`
   */
  copyIn(hostFile: string, path: string, attributes: FileAttributes): Promise<void>;
  /** Makes a folder with its parents; one that is there stays. */
  makeFolder(path: string): Promise<void>;
  /**
   * @throws IngotError `file-not-found`; `request-invalid` for a folder that is not empty without
   *   `isRecursive`
   */
  remove(path: string, isRecursive: boolean): Promise<void>;
}

/** Longer paths are no use, and the tools' lines have an end. */
const MAX_PATH_BYTES = 4096;

/**
 * Checks a path inside an image and brings it into its plain form.
 *
 * @returns an absolute path without a slash at its end
 * @throws IngotError `path-refused` for `..`, quotes, control characters and overlong paths
 */
export function imagePath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  // Quotes and line ends would end the argument of a tool's command.
  const isBad = parts.includes('..') || /["\p{Cc}]/u.test(path);
  if (isBad || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new IngotError('path-refused', `${JSON.stringify(path)} is no path inside an image`, {
      path,
    });
  }
  return `/${parts.join('/')}`;
}
