import type { Command } from '@commander-js/extra-typings';
import { formatBytes } from '../../../base/index.ts';
import { rpmDatabases } from '../../../publish/adapters/rpm-database.ts';
import {
  diffImages,
  diffPackages,
  type FileDifference,
  formatName,
  type ImageTree,
  type PackageDifference,
  parseImagePath,
  readPackages,
} from '../../../publish/index.ts';
import type { CliContext } from '../context.ts';
import { openClient } from '../support/daemon-access.ts';
import { openTreeOfImage } from '../support/image-trees.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import { spoolFolder } from '../support/spool-folder.ts';
import { writeData } from '../support/write-data.ts';
import { pathJson, pathText } from './images-ls.ts';

const EXAMPLES = `
Examples:
  ingot images diff img-y22uq img-9vxqi            packages and files, from the first to the second
  ingot images diff img-y22uq:2 img-9vxqi:2        partition 2 of both
  ingot images diff --packages img-y22uq img-9vxqi only packages
  ingot images diff --json img-y22uq img-9vxqi | jq -r 'select(.change == "added").path'

Contents are compared, not times. Filesystems ext2, ext3, ext4, XFS, btrfs and FAT can be read.
`;

const SIGNS = { added: '+', removed: '-', changed: '~' } as const;

/** `ingot images diff`. */
export function registerImagesDiff(images: Command, context: CliContext): void {
  images
    .command('diff')
    .description('show which files and packages differ between two images')
    .argument('<before>', 'IMAGE or IMAGE:PARTITION')
    .argument('<after>', 'IMAGE or IMAGE:PARTITION')
    .option('--packages', 'only installed packages (dpkg, apk, rpm)')
    .option('--json', 'one JSON object for each difference, a line each')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (beforeText, afterText, options) => {
      using client = openClient(context, options);
      const before = await openTreeOfImage(context, client, parseImagePath(beforeText));
      const after = await openTreeOfImage(context, client, parseImagePath(afterText));
      const isJson = options.json === true;
      await showPackages(context, before, after, isJson);
      if (options.packages === true) return;
      const counts = { added: 0, removed: 0, changed: 0 };
      for await (const difference of diffImages(before, after)) {
        counts[difference.change] += 1;
        const line = isJson ? JSON.stringify(differenceJson(difference)) : lineOf(difference);
        await writeData(context, `${line}\n`);
      }
      if (!isJson) {
        const { added, removed, changed } = counts;
        context.stderr.write(`${added} added, ${removed} removed, ${changed} changed\n`);
      }
    });
}

async function showPackages(
  context: CliContext,
  before: ImageTree,
  after: ImageTree,
  isJson: boolean,
): Promise<void> {
  const database = rpmDatabases(spoolFolder(undefined, undefined));
  const [old, now] = [
    await readPackages(before.tree, database),
    await readPackages(after.tree, database),
  ];
  for (const manager of new Set([...old, ...now].map((list) => list.manager))) {
    const lists = [old, now].map((found) => found.find((list) => list.manager === manager));
    if (lists.some((list) => list !== undefined && list.versions === undefined)) {
      context.stderr.write(`the package database of ${manager} is in a form that is not read\n`);
      continue;
    }
    const [oldVersions, newVersions] = lists.map((list) => list?.versions ?? new Map());
    for (const change of diffPackages(oldVersions ?? new Map(), newVersions ?? new Map())) {
      const line = isJson ? packageJson(manager, change) : packageLine(manager, change);
      await writeData(context, `${line}\n`);
    }
  }
}

const safe = (text: string): string => formatName(Buffer.from(text));

function packageLine(manager: string, { name, before, after }: PackageDifference): string {
  if (before === undefined) return `+ ${manager} ${safe(name)} ${safe(after ?? '')}`;
  if (after === undefined) return `- ${manager} ${safe(name)} ${safe(before)}`;
  return `~ ${manager} ${safe(name)} ${safe(before)} -> ${safe(after)}`;
}

function packageJson(manager: string, { name, before, after }: PackageDifference): string {
  const change = before === undefined ? 'added' : after === undefined ? 'removed' : 'changed';
  return JSON.stringify({
    package: name,
    manager,
    change,
    before: before ?? null,
    after: after ?? null,
  });
}

function lineOf(difference: FileDifference): string {
  const sign = SIGNS[difference.change];
  // The size of a directory says nothing about what it holds.
  const isDirectory = difference.node.kind === 'directory';
  const path = `/${pathText(difference.path)}${isDirectory ? '/' : ''}`;
  if (difference.change !== 'changed') {
    return `${sign} ${path}${isDirectory ? '' : ` (${formatBytes(difference.node.sizeBytes)})`}`;
  }
  const { before, node, facts } = difference;
  const sizes = `${formatBytes(before.sizeBytes)} -> ${formatBytes(node.sizeBytes)}; `;
  return `${sign} ${path} (${facts.includes('content') ? sizes : ''}${facts.join(', ')})`;
}

function differenceJson(difference: FileDifference): unknown {
  const { change, node } = difference;
  const [root, ...rest] = difference.path;
  const path = pathJson([Buffer.alloc(0), ...(root === undefined ? [] : [root]), ...rest]);
  const common = { change, ...path, kind: node.kind, size: node.sizeBytes };
  return change === 'changed'
    ? { ...common, size_before: difference.before.sizeBytes, facts: difference.facts }
    : common;
}
