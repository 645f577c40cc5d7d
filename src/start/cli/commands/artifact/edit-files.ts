import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ArtifactSigner, FilesystemEditor, ImagePlace } from '../../../../publish/index.ts';
import { expectRootPath } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { ArtifactEdit } from './artifact-edit.ts';
import type { CompressionName } from './compression-option.ts';
import { openWorkingCopy } from './copy-files.ts';
import { openFilesystems } from './open-filesystem.ts';
import { readFilePieces } from './payload-file.ts';

/** What editing files inside images needs. */
export interface EditSetup {
  readonly context: CliContext;
  readonly tmp?: string | undefined;
}

/** How an artifact is written after its files were changed. */
export interface ChangeSetup extends EditSetup {
  readonly signer: ArtifactSigner | undefined;
  readonly compression?: CompressionName | undefined;
}

/** Work on one file or folder of a filesystem. */
type FileWork = (editor: FilesystemEditor, path: string) => Promise<void>;

/** Tells an artifact from a disk image by its first entry. */
export async function isArtifactFile(path: string): Promise<boolean> {
  for await (const piece of readFilePieces(path)) {
    return piece.toString('latin1', 0, 8) === 'version\0' && piece.includes('ustar');
  }
  return false;
}

/** Gives `work` a temporary folder, and removes it. */
export async function inTemporaryFolder<T>(
  tmp: string | undefined,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmp ?? tmpdir(), 'ingot-files-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Reads in an image: of two root filesystems the first is asked. */
export async function readInImage(
  { image, path }: ImagePlace,
  work: FileWork,
  { context, tmp }: EditSetup,
): Promise<void> {
  if (!(await isArtifactFile(image))) {
    const found = await openFilesystems(image, path, context.signal);
    return await work(found.editors[0], found.path);
  }
  expectRootPath(path);
  await using edit = await ArtifactEdit.open(image, {
    context,
    tmp,
    unpacks: true,
    progress: true,
  });
  const found = await openFilesystems(edit.rootfsFile(), path, context.signal);
  await work(found.editors[0], found.path);
}

async function changeAll(file: string, path: string, work: FileWork, signal: AbortSignal) {
  const found = await openFilesystems(file, path, signal);
  for (const editor of found.editors) {
    await editor.prepare();
    await work(editor, found.path);
  }
}

/** Changes an image or an artifact; it is replaced only when all went well. */
export async function changeInImage(
  { image, path }: ImagePlace,
  work: FileWork,
  { context, tmp, signer, compression }: ChangeSetup,
): Promise<void> {
  if (await isArtifactFile(image)) {
    expectRootPath(path);
    const setup = { context, tmp, unpacks: true, progress: true };
    await using edit = await ArtifactEdit.open(image, setup);
    await changeAll(edit.rootfsFile(), path, work, context.signal);
    await edit.save({ header: edit.artifact, signer, compression });
    return;
  }
  await using copy = await openWorkingCopy(image, context.signal);
  await changeAll(copy.path, path, work, context.signal);
  await copy.commit();
}
