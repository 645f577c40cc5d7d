import type { Command } from '@commander-js/extra-typings';
import {
  decodeName,
  formatName,
  type ListedFile,
  listFiles,
  parseImagePath,
  resolvePath,
} from '../../../publish/index.ts';
import type { CliContext } from '../context.ts';
import { openClient } from '../support/daemon-access.ts';
import { openTreeOfImage } from '../support/image-trees.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import { writeData } from '../support/write-data.ts';

const EXAMPLES = `
Examples:
  ingot images ls img-y22uq                     the top directory
  ingot images ls -l img-y22uq:/etc             with kinds, owners, sizes and times
  ingot images ls -R img-y22uq:2:/boot          of partition 2, with everything below
  ingot images cat img-y22uq:/etc/os-release

Nothing is mounted. Filesystems ext2, ext3, ext4, XFS, btrfs and FAT can be read, also in partitions.
`;

const KIND_LETTERS = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  'block-device': 'b',
  'char-device': 'c',
  fifo: 'p',
  socket: 's',
} as const;

/** `ingot images ls`. */
export function registerImagesLs(images: Command, context: CliContext): void {
  images
    .command('ls')
    .description('list files inside an image')
    .argument('<image[:path]>', 'IMAGE, IMAGE:PATH or IMAGE:PARTITION:PATH')
    .option('-l, --long', 'with kinds, permissions, owners, sizes and times')
    .option('-R, --recursive', 'with everything below')
    .option('--json', 'one JSON object for each file, a line each')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (text, options) => {
      const where = parseImagePath(text);
      using client = openClient(context, options);
      const { tree } = await openTreeOfImage(context, client, where);
      const start = await resolvePath(tree, where.path, { followsLast: options.long !== true });
      const isRecursive = options.recursive === true;
      for await (const file of listFiles(tree, start, { isRecursive })) {
        const name = file.path.length === 0 ? [Buffer.from(where.path)] : file.path;
        const line =
          options.json === true
            ? JSON.stringify(fileJson(file, name))
            : options.long === true
              ? longLine(file, name)
              : pathText(name);
        await writeData(context, `${line}\n`);
      }
    });
}

/** Formats a path for people; nothing in it can command a terminal. */
export function pathText(path: readonly Buffer[]): string {
  return path.map(formatName).join('/');
}

/** A path as JSON has it: text, and the exact bytes where they are no UTF-8. */
export function pathJson(path: readonly Buffer[]): Record<string, string> {
  const names = path.map(decodeName);
  const exact = names.every((name) => name !== undefined)
    ? {}
    : { path_hex: path.map((name) => name.toString('hex')).join('2f') };
  return { path: path.map((name, i) => names[i] ?? formatName(name)).join('/'), ...exact };
}

/** ISO 8601; a time that no calendar has is its seconds. */
function timeText(ns: bigint): string {
  const ms = Number(ns / 1_000_000n);
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ns / 1_000_000_000n);
}

function longLine({ node, linkTarget }: ListedFile, path: readonly Buffer[]): string {
  const size = String(node.sizeBytes).padStart(11);
  const owner = `${String(node.userId).padStart(5)} ${String(node.groupId).padStart(5)}`;
  const time = timeText(node.modifiedAtNs).slice(0, 16).replace('T', ' ');
  const target = linkTarget === undefined ? '' : ` -> ${formatName(linkTarget)}`;
  const mode = KIND_LETTERS[node.kind] + permissionsText(node.permissions);
  return `${mode} ${owner} ${size} ${time} ${pathText(path)}${target}`;
}

function permissionsText(permissions: number): string {
  const bits = 'rwxrwxrwx'
    .split('')
    .map((letter, i) => ((permissions & (0o400 >> i)) === 0 ? '-' : letter));
  for (const [bit, at, letter] of [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const) {
    if ((permissions & bit) !== 0) bits[at] = bits[at] === 'x' ? letter : letter.toUpperCase();
  }
  return bits.join('');
}

function fileJson({ node, linkTarget }: ListedFile, path: readonly Buffer[]): unknown {
  return {
    ...pathJson(path),
    kind: node.kind,
    mode: `0${node.permissions.toString(8)}`,
    uid: node.userId,
    gid: node.groupId,
    size: node.sizeBytes,
    modified_at: timeText(node.modifiedAtNs),
    ...(linkTarget === undefined
      ? {}
      : { target: decodeName(linkTarget) ?? formatName(linkTarget) }),
  };
}
