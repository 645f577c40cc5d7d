import { MIB } from '../../src/base/index.ts';
import type { ByteReader, FileNode, FileTree } from '../../src/bytes/index.ts';

/** Reads as much as a walk of three levels gives, and no more than 16 MiB of any file. */
export async function walkTree(tree: FileTree): Promise<void> {
  const visit = async (node: FileNode, depth: number): Promise<void> => {
    if (node.kind === 'directory' && depth < 3) {
      let entries = 0;
      for await (const { inode } of tree.list(node)) {
        entries += 1;
        if (entries > 100) break;
        await visit(await tree.node(inode), depth + 1);
      }
    } else if (node.kind === 'file') {
      await tree.placesOf(node);
      let read = 0;
      for await (const piece of tree.readFile(node)) {
        read += piece.length;
        if (read > 16 * MIB) break;
      }
    } else if (node.kind === 'symlink') {
      await tree.readLink(node);
    }
  };
  await visit(await tree.root(), 0);
}

/** Remembers which pages of a disk were read. */
export function recordingReader(reader: ByteReader, pages: Set<number>): ByteReader {
  return {
    sizeBytes: reader.sizeBytes,
    read: (offset, length) => {
      for (let page = Math.floor(offset / 4096); page * 4096 < offset + length; page++) {
        pages.add(page);
      }
      return reader.read(offset, length);
    },
  };
}

/** Gives a disk on which single bytes are others. */
export function patchedReader(
  reader: ByteReader,
  patches: ReadonlyMap<number, number>,
): ByteReader {
  return {
    sizeBytes: reader.sizeBytes,
    read: async (offset, length) => {
      const bytes = Buffer.from(await reader.read(offset, length));
      for (const [at, byte] of patches) {
        if (at >= offset && at < offset + length) bytes[at - offset] = byte;
      }
      return bytes;
    },
  };
}
