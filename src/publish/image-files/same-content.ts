import type { FileNode, FileTree } from '../../bytes/index.ts';
import type { FeedReader } from './feed-reader.ts';

/** A file of an image. */
interface FileOfImage {
  readonly tree: FileTree;
  readonly reader: FeedReader;
  readonly file: FileNode;
}

/**
 * Tells whether two files have the same bytes.
 *
 * Files that lie in the same chunks at the same places are the same: two images of one machine share
 * nearly all of them, so little has to be read.
 */
export async function hasSameContent(a: FileOfImage, b: FileOfImage): Promise<boolean> {
  if (a.file.sizeBytes !== b.file.sizeBytes) return false;
  if (a.file.sizeBytes === 0) return true;
  const [nameA, nameB] = await Promise.all([contentName(a), contentName(b)]);
  if (nameA !== undefined && nameA === nameB) return true;
  return await haveSameBytes(a.tree.readFile(a.file), b.tree.readFile(b.file));
}

/** More pieces than this are not named: their bytes are compared. */
const MAX_NAMED_PIECES = 4096;

/** A text that is equal only for equal contents, or undefined when it would get too long. */
async function contentName({ tree, reader, file }: FileOfImage): Promise<string | undefined> {
  const places = await tree.placesOf(file);
  if (places === undefined || places.length > MAX_NAMED_PIECES) return undefined;
  const names: string[] = [];
  for (const { fileOffset, diskOffset, lengthBytes } of places) {
    let at = fileOffset;
    for (const piece of await reader.names(diskOffset, lengthBytes)) {
      // Holes of the file and zeros on the disk read alike, so neither is named.
      if (piece.digest !== undefined) {
        names.push(`${at} ${piece.digest} ${piece.startBytes} ${piece.lengthBytes}`);
      }
      at += piece.lengthBytes;
      if (names.length > MAX_NAMED_PIECES) return undefined;
    }
  }
  return names.join('\n');
}

async function haveSameBytes(
  a: AsyncGenerator<Buffer, void, undefined>,
  b: AsyncGenerator<Buffer, void, undefined>,
): Promise<boolean> {
  let restA: Buffer = Buffer.alloc(0);
  let restB: Buffer = Buffer.alloc(0);
  try {
    for (;;) {
      if (restA.length === 0) restA = (await a.next()).value ?? END;
      if (restB.length === 0) restB = (await b.next()).value ?? END;
      if (restA === END || restB === END) return restA === restB;
      const length = Math.min(restA.length, restB.length);
      if (!restA.subarray(0, length).equals(restB.subarray(0, length))) return false;
      restA = restA.subarray(length);
      restB = restB.subarray(length);
    }
  } finally {
    await a.return();
    await b.return();
  }
}

/** Stands for the end of a file; no file yields it. */
const END = Buffer.alloc(1);
