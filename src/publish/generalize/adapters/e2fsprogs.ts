import { execFile } from 'node:child_process';
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, IngotError } from '../../../base/index.ts';
import { formatName } from '../../image-files/file-name.ts';
import type { GeneralizeStep } from '../plan.ts';

/** A check of a large filesystem reads all of its metadata. */
const TOOL_TIMEOUT_MS = 30 * 60_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;

/** A filesystem inside of a file of our own. */
export interface FilesystemInFile {
  readonly path: string;
  readonly offsetBytes: number;
}

interface ToolEnd {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** e2fsprogs take `FILE?offset=N`, so the file's own name must have no question mark. */
function deviceOf({ path, offsetBytes }: FilesystemInFile): string {
  if (path.includes('?')) throw new IngotError('path-refused', `${path} has a question mark`);
  return offsetBytes === 0 ? path : `${path}?offset=${offsetBytes}`;
}

function runTool(name: string, argv: readonly string[], signal: AbortSignal): Promise<ToolEnd> {
  const options = {
    timeout: TOOL_TIMEOUT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
    signal,
    // Messages are compared, so they must be the untranslated ones.
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
  };
  return new Promise((resolve, reject) => {
    execFile(name, argv, options, (error, stdout, stderr) => {
      if (error === null) {
        resolve({ status: 0, stdout, stderr });
      } else if (errnoOf(error) === 'ENOENT') {
        const message = `${name} is not installed (Debian package e2fsprogs)`;
        reject(new IngotError('tool-missing', message, { tool: name }, { cause: error }));
      } else if (typeof error.code === 'number') {
        resolve({ status: error.code, stdout, stderr });
      } else {
        reject(signal.aborted ? signal.reason : error);
      }
    });
  });
}

/**
 * Checks a filesystem, and mends what can be mended without a question; a journal is replayed.
 *
 * @throws IngotError `filesystem-malformed`, `tool-missing`
 */
export async function checkFilesystem(
  filesystem: FilesystemInFile,
  signal: AbortSignal,
): Promise<void> {
  const { status, stdout, stderr } = await runTool(
    'e2fsck',
    ['-f', '-p', deviceOf(filesystem)],
    signal,
  );
  // 1: it was mended (e2fsck(8)).
  if (status === 0 || status === 1) return;
  throw new IngotError(
    'filesystem-malformed',
    `e2fsck ended with ${status}: ${lastLine(stderr) || lastLine(stdout)}`,
    { status },
  );
}

/**
 * Carries out the steps of a plan on a filesystem in a file.
 *
 * @param folder of our own, for the list of commands
 * @returns steps that were left out because their names cannot be given to debugfs
 * @throws IngotError `filesystem-malformed`, `tool-missing`
 */
export async function applySteps(
  filesystem: FilesystemInFile,
  steps: readonly GeneralizeStep[],
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
): Promise<GeneralizeStep[]> {
  const leftOut: GeneralizeStep[] = [];
  const commands: Buffer[] = [];
  for (const step of steps) {
    // debugfs takes a command from each line, and a name from between two quotes.
    const isSafe = step.path.every((byte) => byte >= 0x20 && byte !== 0x22 && byte !== 0x7f);
    if (isSafe) commands.push(...commandsOf(step));
    else leftOut.push(step);
  }
  if (commands.length === 0) return leftOut;
  const list = join(folder, 'debugfs-commands');
  await writeFile(list, Buffer.concat(commands), { mode: 0o600 });
  const argv = ['-w', '-f', list, deviceOf(filesystem)];
  const { status, stderr } = await runTool('debugfs', argv, signal);
  // A command that fails is said on stderr only; a directory may hold what was left out.
  const problem = stderr
    .split('\n')
    .find((line) => line !== '' && !/^debugfs \d/.test(line) && !/^rmdir: .*not empty/.test(line));
  if (status !== 0 || problem !== undefined) {
    const words = formatName(Buffer.from(problem ?? `it ended with ${status}`));
    throw new IngotError('filesystem-malformed', `debugfs: ${words}`);
  }
  return leftOut;
}

function commandsOf({ action, path }: GeneralizeStep): Buffer[] {
  const command = (before: string, after: string): Buffer =>
    Buffer.concat([Buffer.from(`${before} "`), path, Buffer.from(`"${after}\n`)]);
  switch (action) {
    case 'remove':
      return [command('rm', '')];
    case 'remove-directory':
      return [command('rmdir', '')];
    case 'empty':
      // The name and its directory stay as they are, which an index of a large one needs.
      return [command('punch', ' 0'), command('set_inode_field', ' size 0')];
  }
}

/**
 * Makes a filesystem that fills a file as small as it can be, and the file with it.
 *
 * @param marginBytes free space that is left in it
 * @returns the new size of the file
 * @throws IngotError `filesystem-malformed`, `tool-missing`
 */
export async function shrinkFilesystem(
  path: string,
  { marginBytes, signal }: { readonly marginBytes: number; readonly signal: AbortSignal },
): Promise<number> {
  const filesystem = { path, offsetBytes: 0 };
  await checkFilesystem(filesystem, signal);
  const before = await filesystemBytes(path);
  await resize(['-M', path], signal);
  const smallest = await filesystemBytes(path);
  const wanted = Math.min(before, Math.ceil((smallest + marginBytes) / MIB) * MIB);
  if (wanted > smallest) {
    await truncate(path, wanted);
    await resize([path, `${Math.floor(wanted / 1024)}K`], signal);
  }
  await checkFilesystem(filesystem, signal);
  const sizeBytes = await filesystemBytes(path);
  await truncate(path, sizeBytes);
  return sizeBytes;
}

const MIB = 1024 * 1024;

async function resize(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { status, stderr } = await runTool('resize2fs', argv, signal);
  if (status === 0) return;
  throw new IngotError('filesystem-malformed', `resize2fs: ${lastLine(stderr)}`, { status });
}

/** The size that the superblock gives, in the fields that resize2fs writes. */
async function filesystemBytes(path: string): Promise<number> {
  await using file = await open(path, 'r');
  const superblock = Buffer.alloc(1024);
  await file.read(superblock, 0, superblock.length, 1024);
  const hasHigh = (superblock.readUInt32LE(0x60) & 0x80) !== 0;
  const blocks =
    superblock.readUInt32LE(0x4) + (hasHigh ? superblock.readUInt32LE(0x150) * 2 ** 32 : 0);
  return blocks * 1024 * 2 ** superblock.readUInt32LE(0x18);
}

function lastLine(text: string): string {
  const lines = text.trim().split('\n');
  return formatName(Buffer.from(lines.at(-1) ?? ''));
}
