import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { FileNode, FileTree } from '../../src/bytes/index.ts';

async function contentOf(tree: FileTree, file: FileNode): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of tree.readFile(file)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/**
 * Compares a directory of an image with one of this machine, all the way down.
 *
 * @returns how many names were compared
 */
export async function compareTrees(
  tree: FileTree,
  directory: FileNode,
  path: string,
): Promise<number> {
  const names: string[] = [];
  let count = 0;
  for await (const { name, inode } of tree.list(directory)) {
    const text = name.toString('utf8');
    if (text === 'lost+found') continue;
    names.push(text);
    count += 1;
    const node = await tree.node(inode);
    const full = join(path, text);
    const expected = lstatSync(full, { bigint: true });
    assert.equal(node.permissions, Number(expected.mode & 0o7777n), full);
    if (node.kind === 'directory') {
      assert.ok(expected.isDirectory(), full);
      count += await compareTrees(tree, node, full);
    } else if (node.kind === 'symlink') {
      assert.equal((await tree.readLink(node)).toString(), readlinkSync(full));
    } else {
      assert.equal(node.kind, 'file', full);
      assert.equal(node.sizeBytes, Number(expected.size), full);
      assert.equal(node.modifiedAtNs / 1_000_000_000n, expected.mtimeNs / 1_000_000_000n, full);
      assert.ok((await contentOf(tree, node)).equals(readFileSync(full)), full);
    }
  }
  assert.deepEqual(names.toSorted(), readdirSync(path).toSorted(), path);
  return count;
}
