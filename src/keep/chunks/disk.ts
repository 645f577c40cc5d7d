/** An open file of a {@link Disk}. Closing twice is safe. */
export interface DiskFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Writes at the end, in this order. Calls must not overlap. */
  append(buffers: readonly Uint8Array[]): Promise<void>;
  /**
   * Reads what is there: fewer bytes than asked for only at the end of the file.
   *
   * @param memory where the bytes may be put, if it is long enough: the result is then a view of it
   */
  read(offsetBytes: number, lengthBytes: number, memory?: Buffer): Promise<Buffer>;
  /** Makes what was appended survive a power cut (fdatasync). */
  datasync(): Promise<void>;
}

/**
 * The data directory, and nothing else of the machine.
 *
 * Paths are relative to it, with `/`. Every implementation passes `test/contracts/disk.ts`, and
 * promises that:
 *
 * - after `datasync` a file's bytes survive a power cut, and after `syncFolder` so do the names in
 *   that folder; nothing else does;
 * - `rename` replaces its target in one step;
 * - a file that is removed while it is open stays readable there;
 * - failures are IngotErrors: `library-full` when no space is left, `library-unusable` for every
 *   other error of the machine. A file that is not there is `undefined` where that is a possible
 *   answer, else `library-unusable`.
 */
export interface Disk {
  /** Makes a new file; one that is there is an error. */
  create(path: string, mode?: number): Promise<DiskFile>;
  /** Opens for reading. */
  open(path: string): Promise<DiskFile | undefined>;
  /** @returns the file's size, or undefined when there is none */
  sizeOf(path: string): Promise<number | undefined>;
  rename(from: string, to: string): Promise<void>;
  /** Removing what is not there does nothing. */
  remove(path: string): Promise<void>;
  /** @returns names in the folder, ascending; an absent folder is an error, not an empty list */
  list(folder: string): Promise<string[]>;
  /** Makes a folder; one that is there is left as it is. */
  makeFolder(path: string, mode?: number): Promise<void>;
  syncFolder(folder: string): Promise<void>;
  /** @returns bytes that can still be written */
  freeBytes(): Promise<number>;
  /**
   * Keeps every other process out, until disposal or death of this one.
   *
   * @throws IngotError `library-busy` when another process holds it
   */
  lock(path: string): Promise<AsyncDisposable>;
}

/**
 * Replaces a whole small file so that after a power cut either the old or the new one is there.
 *
 * @param isDurable whether the folder is synced too; a caller that writes many syncs it once itself
 */
export async function writeWhole(
  disk: Disk,
  path: string,
  bytes: Uint8Array,
  { isDurable = true, mode = 0o644 }: { isDurable?: boolean; mode?: number } = {},
): Promise<void> {
  const folder = folderOf(path);
  const temporary = `${path}.new`;
  await disk.remove(temporary);
  try {
    await using file = await disk.create(temporary, mode);
    await file.append([bytes]);
    await file.datasync();
  } catch (error) {
    // What was half written must not keep its space; the first failure is the one to report.
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  }
  await disk.rename(temporary, path);
  if (isDurable) await disk.syncFolder(folder);
}

/** @returns the file's bytes, or undefined when there is none or it is larger than `limitBytes` */
export async function readWhole(
  disk: Disk,
  path: string,
  limitBytes: number,
): Promise<Buffer | undefined> {
  await using file = await disk.open(path);
  if (file === undefined || file.sizeBytes > limitBytes) return undefined;
  return await file.read(0, file.sizeBytes);
}

/** @returns the folder of a path inside the data directory */
export function folderOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : path.slice(0, slash);
}
