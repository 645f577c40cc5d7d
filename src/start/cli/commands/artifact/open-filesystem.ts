import { type FileHandle, open } from 'node:fs/promises';
import { IngotError } from '../../../../base/index.ts';
import { type ByteReader, readDiskMap } from '../../../../bytes/index.ts';
import { DebugfsEditor } from '../../../../publish/adapters/debugfs-editor.ts';
import { MtoolsEditor } from '../../../../publish/adapters/mtools-editor.ts';
import {
  type FilesystemEditor,
  type FilesystemPlace,
  partitionFor,
} from '../../../../publish/index.ts';

/** Mender's disks: boot, root A, root B, data. */
const DISK_PARTITIONS = 4;

/** A file as the readers of `bytes/` see it. */
class FileReader implements ByteReader {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const buffer = Buffer.alloc(lengthBytes);
    const { bytesRead } = await this.#handle.read(buffer, 0, lengthBytes, offsetBytes);
    if (bytesRead < lengthBytes) {
      throw new IngotError(
        'source-truncated',
        `the image gave ${bytesRead} of ${lengthBytes} bytes at ${offsetBytes}`,
      );
    }
    return buffer;
  }
}

function editorFor(
  filesystem: string | undefined,
  place: FilesystemPlace,
  signal: AbortSignal,
): FilesystemEditor | undefined {
  if (filesystem?.startsWith('ext') === true) return new DebugfsEditor(place, signal);
  if (filesystem === 'vfat') return new MtoolsEditor(place, signal);
  return undefined;
}

function unsupported(file: string, filesystem: string | undefined): IngotError {
  return new IngotError(
    'source-unsupported',
    `${file}: files are changed in ext2, ext3, ext4 and FAT, not in ${filesystem ?? 'what this is'}`,
    { filesystem: filesystem ?? 'unknown' },
  );
}

/** The filesystems that a path concerns, and the path inside them. */
export interface OpenFilesystems {
  readonly path: string;
  /** One, or both root filesystems of a disk: a change goes into each. */
  readonly editors: readonly [FilesystemEditor, ...FilesystemEditor[]];
}

/**
 * Finds the filesystems of an image or a disk that a path is in.
 *
 * @param path absolute, inside the image
 * @throws IngotError `source-unsupported` for other filesystems and layouts
 */
export async function openFilesystems(
  file: string,
  path: string,
  signal: AbortSignal,
): Promise<OpenFilesystems> {
  await using handle = await open(file);
  const map = await readDiskMap(new FileReader(handle, (await handle.stat()).size), { signal });
  if (map.filesystem !== 'disk') {
    const editor = editorFor(map.filesystem, { file, offsetBytes: 0 }, signal);
    if (editor === undefined) throw unsupported(file, map.filesystem);
    return { path, editors: [editor] };
  }
  const { partitions } = map;
  if (partitions.length !== DISK_PARTITIONS) {
    throw new IngotError(
      'source-unsupported',
      `${file} has ${partitions.length} partitions; a disk of Mender has boot, two roots and data`,
      { partitions: partitions.length },
    );
  }
  const inside = partitionFor(path);
  const chosen = { boot: [0], roots: [1, 2], data: [3] }[inside.role].map((i) => partitions[i]);
  const editors: FilesystemEditor[] = [];
  for (const partition of chosen) {
    const { filesystem, offsetBytes = 0 } = partition ?? {};
    const editor = editorFor(filesystem, { file, offsetBytes }, signal);
    // The second root is empty on a new disk.
    if (editor !== undefined) editors.push(editor);
    else if (inside.role !== 'roots') throw unsupported(file, filesystem);
  }
  const [first, ...others] = editors;
  if (first === undefined) throw unsupported(file, chosen[0]?.filesystem);
  return { path: inside.path, editors: [first, ...others] };
}
