import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { IngotError } from '../../base/index.ts';
import {
  type EditorEntry,
  type FileAttributes,
  type FilesystemEditor,
  type FilesystemPlace,
  imagePath,
} from '../image-edit/filesystem-editor.ts';
import { runTool } from './edit-tool.ts';
import { isSameFile } from './same-file.ts';

const PACKAGE = 'e2fsprogs';
/** e2fsck: 0 is clean, 1 is mended. */
const MAX_GOOD_FSCK = 1;
/** Folders inside folders that are removed at once. */
const MAX_DEPTH = 64;

function kindOf(type: string): EditorEntry['kind'] {
  if (type === 'regular') return 'file';
  return type === 'directory' ? 'folder' : 'other';
}

function quoted(path: string): string {
  return `"${path}"`;
}

/** Changes ext2, ext3 and ext4 filesystems through debugfs. */
export class DebugfsEditor implements FilesystemEditor {
  readonly #device: string;
  readonly #signal: AbortSignal | undefined;

  constructor({ file, offsetBytes }: FilesystemPlace, signal?: AbortSignal) {
    // libext2fs takes options of its I/O behind a question mark.
    this.#device = offsetBytes === 0 ? file : `${file}?offset=${offsetBytes}`;
    this.#signal = signal;
  }

  /** Runs commands and gives what they printed; debugfs itself never fails. */
  async #run(
    commands: readonly string[],
    { mayWrite }: { readonly mayWrite: boolean },
  ): Promise<{ stdout: string; complaint: string }> {
    const { status, stdout, stderr } = await runTool('debugfs', {
      args: [...(mayWrite ? ['-w'] : []), '-f', '-', this.#device],
      input: `${commands.join('\n')}\n`,
      package: PACKAGE,
      signal: this.#signal,
    });
    const complaint = stderr.replace(/^debugfs [^\n]*\n/, '').trim();
    if (status !== 0 || /^[^\n]*: (Bad magic|.*while (trying to )?open)/i.test(complaint)) {
      throw new IngotError(
        'filesystem-malformed',
        `debugfs cannot open the filesystem: ${complaint}`,
      );
    }
    return { stdout, complaint };
  }

  async prepare(): Promise<void> {
    const { status, stdout, stderr } = await runTool('e2fsck', {
      args: ['-p', this.#device],
      package: PACKAGE,
      signal: this.#signal,
    });
    if (status > MAX_GOOD_FSCK) {
      throw new IngotError(
        'filesystem-malformed',
        `e2fsck ended with ${status}: ${(stdout + stderr).trim().slice(-300)}`,
        { status },
      );
    }
  }

  async find(path: string): Promise<EditorEntry | undefined> {
    const { stdout, complaint } = await this.#run([`stat ${quoted(path)}`], { mayWrite: false });
    if (/File not found/.test(complaint)) return undefined;
    const type = /^Inode: \d+ +Type: (.+?) +Mode: +0?([0-7]+)/m.exec(stdout);
    const owner = /^User: +(\d+) +Group: +(\d+)/m.exec(stdout);
    if (type === null || owner === null) {
      throw new IngotError('filesystem-malformed', `debugfs on ${path}: ${complaint}`, { path });
    }
    return {
      kind: kindOf(type[1] ?? ''),
      mode: Number.parseInt(type[2] ?? '0', 8) & 0o7777,
      userId: Number(owner[1]),
      groupId: Number(owner[2]),
    };
  }

  async #expect(path: string, kind: EditorEntry['kind']): Promise<void> {
    const entry = await this.find(path);
    if (entry?.kind === kind) return;
    throw new IngotError(
      'file-not-found',
      entry === undefined ? `the image has no ${path}` : `${path} in the image is no ${kind}`,
      { path },
    );
  }

  async copyOut(path: string, hostFile: string): Promise<void> {
    await this.#expect(path, 'file');
    const command = `dump ${quoted(path)} ${quoted(hostFile)}`;
    const { complaint } = await this.#run([command], { mayWrite: false });
    if (complaint !== '') {
      throw new IngotError('source-unreadable', `debugfs on ${path}: ${complaint}`, { path });
    }
  }

  async copyIn(hostFile: string, path: string, attributes: FileAttributes): Promise<void> {
    await this.#expect(dirname(path), 'folder');
    const before = await this.find(path);
    if (before?.kind === 'folder') {
      throw new IngotError('request-invalid', `${path} in the image is a folder`, { path });
    }
    const { mode, userId, groupId } = attributes;
    const name = quoted(path);
    const { complaint } = await this.#run(
      [
        ...(before === undefined ? [] : [`rm ${name}`]),
        `cd ${quoted(dirname(path))}`,
        `write ${quoted(hostFile)} ${quoted(basename(path))}`,
        `sif ${name} mode 0${(0o100000 | mode).toString(8)}`,
        `sif ${name} uid ${userId}`,
        `sif ${name} gid ${groupId}`,
      ],
      { mayWrite: true },
    );
    if (/No space|Could not allocate/i.test(complaint)) {
      throw new IngotError('target-full', `the filesystem has no room for ${path}: ${complaint}`);
    }
    if (complaint !== '') {
      throw new IngotError('filesystem-malformed', `debugfs on ${path}: ${complaint}`, { path });
    }
    await this.#expectCopied(hostFile, path);
  }

  /** Reads a file back: debugfs has been seen to stop in the middle without a word. */
  async #expectCopied(hostFile: string, path: string): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'ingot-edit-'));
    try {
      const copy = join(folder, 'copy');
      await this.copyOut(path, copy);
      if (await isSameFile(hostFile, copy)) return;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    throw new IngotError('target-full', `${path} was not wholly written into the image`, { path });
  }

  async makeFolder(path: string): Promise<void> {
    const parts = path.split('/').filter((part) => part !== '');
    for (let count = 1; count <= parts.length; count++) {
      const folder = `/${parts.slice(0, count).join('/')}`;
      const entry = await this.find(folder);
      if (entry?.kind === 'folder') continue;
      if (entry === undefined) {
        await this.#run([`mkdir ${quoted(folder)}`], { mayWrite: true });
      }
      await this.#expect(folder, 'folder');
    }
  }

  async #names(path: string): Promise<string[]> {
    const { stdout } = await this.#run([`ls -p ${quoted(path)}`], { mayWrite: false });
    const names: string[] = [];
    for (const match of stdout.matchAll(/^\/\d+\/\d+\/\d+\/\d+\/(.*)\/\d*\/$/gm)) {
      const name = match[1] ?? '';
      if (name !== '' && name !== '.' && name !== '..') names.push(name);
    }
    return names;
  }

  async remove(path: string, isRecursive: boolean, depth = 0): Promise<void> {
    const entry = await this.find(path);
    if (entry === undefined || path === '/') {
      throw new IngotError('file-not-found', `the image has no ${path} to remove`, { path });
    }
    if (entry.kind === 'folder') {
      const names = await this.#names(path);
      if (names.length > 0 && !isRecursive) {
        throw new IngotError('request-invalid', `${path} is a folder that is not empty (-r)`, {
          path,
        });
      }
      if (depth > MAX_DEPTH) {
        throw new IngotError('request-invalid', `${path} is nested too deeply`, { path });
      }
      for (const name of names) await this.remove(imagePath(`${path}/${name}`), true, depth + 1);
    }
    const command = entry.kind === 'folder' ? 'rmdir' : 'rm';
    const { complaint } = await this.#run([`${command} ${quoted(path)}`], { mayWrite: true });
    if ((await this.find(path)) !== undefined) {
      throw new IngotError('filesystem-malformed', `debugfs on ${path}: ${complaint}`, { path });
    }
  }
}
