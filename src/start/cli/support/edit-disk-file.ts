import { lstat, mkdtemp, open, opendir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { formatBytes, IngotError, MIB, systemClock } from '../../../base/index.ts';
import {
  type ByteReader,
  FILE_TREE_FILESYSTEMS,
  openFileTree,
  readDiskLayout,
} from '../../../bytes/index.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import { openImageFile } from '../../../capture/adapters/open-image-file.ts';
import { createOwnedFile, removeIfAbandoned } from '../../../capture/adapters/owned-file.ts';
import { type CaptureFacts, dumpSnapshot, type SnapshotSource } from '../../../capture/index.ts';
import {
  applySteps,
  checkFilesystem,
  type FilesystemInFile,
  shrinkFilesystem,
} from '../../../publish/generalize/adapters/e2fsprogs.ts';
import {
  editMounted,
  type MountableFilesystem,
} from '../../../publish/generalize/adapters/edit-mounted.ts';
import { formatName, type GeneralizeStep, planGeneralize } from '../../../publish/index.ts';
import type { CliContext } from '../context.ts';

/** Room for the first boot: new host keys, a journal, a few logs. */
const SHRINK_MARGIN_BYTES = 64 * MIB;

const FOLDER_PREFIX = 'ingot-generalize-';
/** The file in a temporary folder whose lock tells that somebody works there. */
const OWNER_FILE = 'owner';

/** Makes a folder that is gone after disposal; one that a killed process left is removed. */
export async function temporaryFolder(
  parent: string,
): Promise<{ readonly path: string } & AsyncDisposable> {
  await removeAbandonedFolders(parent);
  const { path, handle } = await createOwnedFile(async () =>
    join(await mkdtemp(join(parent, FOLDER_PREFIX)), OWNER_FILE),
  );
  const folder = dirname(path);
  return {
    path: folder,
    [Symbol.asyncDispose]: async () => {
      await rm(folder, { recursive: true, force: true });
      await handle.close();
    },
  };
}

async function removeAbandonedFolders(parent: string): Promise<void> {
  for await (const entry of await opendir(parent)) {
    if (!entry.name.startsWith(FOLDER_PREFIX) || !entry.isDirectory()) continue;
    const folder = join(parent, entry.name);
    // In a folder for everybody's temporary files somebody else may have made one of that name.
    const stat = await lstat(folder).catch(() => undefined);
    if (stat?.uid !== process.getuid?.()) continue;
    const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
    await removeIfAbandoned(join(folder, OWNER_FILE), remove);
  }
}

/** How the disk in a file is generalized. */
interface GeneralizeRequest {
  readonly folder: string;
  readonly keeps: readonly string[];
  readonly isDryRun: boolean;
}

/**
 * Removes the traces of a single machine from the disk in a file.
 *
 * @returns what was (or would be) removed, of all filesystems of the file
 * @throws IngotError `source-unsupported`, `filesystem-malformed`, `tool-missing`; `not-root` for XFS
 *   and btrfs
 */
export async function generalizeFile(
  context: CliContext,
  path: string,
  request: GeneralizeRequest,
): Promise<GeneralizeStep[]> {
  const found: GeneralizeStep[] = [];
  const filesystems = await filesystemsOf(path);
  if (filesystems.length === 0) {
    throw new IngotError(
      'source-unsupported',
      'no ext2, ext3, ext4, XFS or btrfs filesystem is in the image',
    );
  }
  for (const filesystem of filesystems) {
    const steps = isMountable(filesystem)
      ? await generalizeMounted(context, filesystem, request)
      : await generalizeExt(context, filesystem, request);
    found.push(...steps);
  }
  return found;
}

async function generalizeExt(
  context: CliContext,
  filesystem: FilesystemOfDisk,
  { folder, keeps, isDryRun }: GeneralizeRequest,
): Promise<GeneralizeStep[]> {
  // An unclean journal may hold newer files than the tree shows.
  await checkFilesystem(filesystem, context.signal);
  const { steps } = await planFor(filesystem, keeps);
  if (isDryRun || steps.length === 0) return steps;
  const leftOut = await applySteps(filesystem, steps, { folder, signal: context.signal });
  for (const { path: name } of leftOut) {
    context.stderr.write(`left because of its name: ${formatName(name)}\n`);
  }
  await checkFilesystem(filesystem, context.signal);
  await expectGone(filesystem, keeps, leftOut.length);
  return steps;
}

/** Of XFS and btrfs the kernel makes the changes, in a mount that nobody else sees. */
async function generalizeMounted(
  context: CliContext,
  filesystem: FilesystemOfDisk & MountableFilesystem,
  { folder, keeps, isDryRun }: GeneralizeRequest,
): Promise<GeneralizeStep[]> {
  const call = { folder, signal: context.signal };
  let { steps, needsRecovery } = await planFor(filesystem, keeps);
  if (needsRecovery && !isDryRun) {
    // Mounting replays the log, which may hold newer files than the tree shows.
    await editMounted(filesystem, [], call);
    ({ steps, needsRecovery } = await planFor(filesystem, keeps));
  }
  if (needsRecovery) {
    context.stderr.write('its log needs recovery; the newest changes may be missing\n');
  }
  if (isDryRun || steps.length === 0) return steps;
  await editMounted(filesystem, steps, call);
  await expectGone(filesystem, keeps, 0);
  return steps;
}

async function expectGone(
  filesystem: FilesystemOfDisk,
  keeps: readonly string[],
  leftOut: number,
): Promise<void> {
  const { steps } = await planFor(filesystem, keeps);
  const rest = steps.filter(({ action }) => action === 'remove');
  if (rest.length > leftOut) {
    throw new IngotError('filesystem-malformed', `${rest.length} files could not be removed`);
  }
}

async function planFor(
  { path, filesystem, offsetBytes, sizeBytes }: FilesystemOfDisk,
  keeps: readonly string[],
): Promise<{ readonly steps: GeneralizeStep[]; readonly needsRecovery: boolean }> {
  await using reader = await fileReader(path);
  const tree = await openFileTree(reader, filesystem, { offsetBytes, sizeBytes });
  if (tree === undefined) return { steps: [], needsRecovery: false };
  return { steps: await planGeneralize(tree, keeps), needsRecovery: tree.needsRecovery };
}

interface FilesystemOfDisk extends FilesystemInFile {
  /** As {@link readDiskLayout} names it. */
  readonly filesystem: string;
  readonly sizeBytes: number;
}

function isMountable(
  filesystem: FilesystemOfDisk,
): filesystem is FilesystemOfDisk & MountableFilesystem {
  return filesystem.filesystem !== 'ext';
}

/** The filesystems of a disk whose files can be changed. */
async function filesystemsOf(path: string): Promise<FilesystemOfDisk[]> {
  await using reader = await fileReader(path);
  const { filesystem, partitions } = await readDiskLayout(reader);
  const whole = { filesystem, offsetBytes: 0, sizeBytes: reader.sizeBytes };
  return [whole, ...partitions].flatMap(({ filesystem: name = '', offsetBytes, sizeBytes }) =>
    FILE_TREE_FILESYSTEMS.includes(name)
      ? [{ path, filesystem: name, offsetBytes, sizeBytes }]
      : [],
  );
}

async function fileReader(path: string): Promise<ByteReader & AsyncDisposable> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    read: async (offsetBytes, lengthBytes) => {
      const buffer = Buffer.alloc(lengthBytes);
      const { bytesRead } = await file.read(buffer, 0, lengthBytes, offsetBytes);
      if (bytesRead === lengthBytes) return buffer;
      throw new IngotError('source-truncated', `${path} ended at ${offsetBytes + bytesRead}`);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/**
 * Makes the filesystem in a file as small as it can be, with room for the first boot.
 *
 * @throws IngotError `source-unsupported` for a partitioned disk, XFS and btrfs;
 *   `filesystem-malformed`
 */
export async function shrinkFile(context: CliContext, path: string): Promise<void> {
  const [filesystem] = await filesystemsOf(path);
  if (filesystem?.offsetBytes !== 0 || filesystem.filesystem !== 'ext') {
    const words = 'only an ext2, ext3 or ext4 without partitions can be shrunk';
    throw new IngotError('source-unsupported', words);
  }
  const { signal } = context;
  const sizeBytes = await shrinkFilesystem(path, { marginBytes: SHRINK_MARGIN_BYTES, signal });
  context.stderr.write(`The image has ${formatBytes(sizeBytes)} now\n`);
}

/**
 * Opens an edited file to be taken in. What was removed lies in free blocks, which read as zeros.
 *
 * @param capture what is said of the instant that the file shows
 */
export async function openEditedFile(
  context: CliContext,
  path: string,
  { capture, spoolFolder }: { readonly capture: CaptureFacts; readonly spoolFolder: string },
): Promise<SnapshotSource> {
  const { signal } = context;
  const source = await openImageFile(path, {
    name: 'disk',
    freeSpace: 'zero',
    spoolFolder,
    signal,
  });
  return {
    sizeBytes: source.sizeBytes,
    mayChange: source.mayChange,
    pass: (kind) => source.pass(kind),
    facts: () => ({ ...capture, freeSpace: 'zero' }),
    notices: () => source.notices(),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

/** The flags of a command that edits what it captures. */
export interface EditOptions {
  readonly generalize?: boolean | undefined;
  readonly shrink?: boolean | undefined;
}

/** `--generalize`, for every command that captures. */
export const GENERALIZE_OPTION = [
  '--generalize',
  'without the traces of the machine (see images generalize)',
] as const;

/** `--shrink`, for every command that captures. */
export const SHRINK_OPTION = [
  '--shrink',
  'make the filesystem as small as it can be, and the image with it',
] as const;

/**
 * Copies a capture into a temporary file, edits that, and opens it. Neither the machine nor the
 * captured file is changed. Disposal removes the file.
 *
 * @param source stays the caller's
 * @param spoolFolder on a filesystem that the capture does not freeze
 * @returns undefined when no edit is asked for
 * @throws IngotError `source-unsupported` before anything is copied, where no filesystem can be
 *   edited; `filesystem-malformed`, `tool-missing`
 */
export async function openEdited(
  context: CliContext,
  source: SnapshotSource,
  { generalize, shrink, spoolFolder }: EditOptions & { readonly spoolFolder: string },
): Promise<SnapshotSource | undefined> {
  if (generalize !== true && shrink !== true) return undefined;
  await checkEditable(source, shrink === true);
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await temporaryFolder(spoolFolder));
  const path = join(folder.path, 'disk');
  await copyCapture(context, source, path);
  if (generalize === true) {
    const request = { folder: folder.path, keeps: [], isDryRun: false };
    listSteps(context, await generalizeFile(context, path, request));
  }
  if (shrink === true) await shrinkFile(context, path);
  const edited = undo.use(
    await openEditedFile(context, path, { capture: source.facts(), spoolFolder }),
  );
  const owned = undo.move();
  return {
    ...edited,
    notices: () => [...new Set([...source.notices(), ...edited.notices()])],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function copyCapture(
  context: CliContext,
  source: SnapshotSource,
  path: string,
): Promise<void> {
  await using target = await openFileTarget(path);
  using progress = context.progress('copy');
  await dumpSnapshot({
    source,
    target,
    compressor: undefined,
    onProgress: progress.onProgress,
    signal: context.signal,
    clock: systemClock,
  });
}

/** A look at the live source, so that nobody waits for a copy that cannot be edited. */
async function checkEditable(source: SnapshotSource, shrinks: boolean): Promise<void> {
  const pass = await source.pass('live');
  await pass.end();
  const { filesystem } = source.facts();
  if (filesystem?.startsWith('ext') === true) return;
  if (filesystem === 'disk' && !shrinks) return;
  const what = filesystem === 'disk' ? 'a partitioned disk' : (filesystem ?? 'an unknown one');
  throw new IngotError(
    'source-unsupported',
    shrinks
      ? `only an ext2, ext3 or ext4 filesystem can be shrunk, not ${what}`
      : `only ext2, ext3 and ext4 filesystems can be changed without mounting, not ${what}`,
  );
}

/** Lists on stderr what was removed. */
export function listSteps({ stderr }: CliContext, steps: readonly GeneralizeStep[]): void {
  for (const { rule, action, path, sizeBytes } of steps) {
    const what = action === 'empty' ? 'empty ' : 'remove';
    stderr.write(`${what} ${formatName(path)} (${rule}, ${formatBytes(sizeBytes)})\n`);
  }
}
