import { dirname } from 'node:path';
import { IngotError } from '../../base/index.ts';
import type {
  EditorEntry,
  FileAttributes,
  FilesystemEditor,
  FilesystemPlace,
} from '../image-edit/filesystem-editor.ts';
import { runTool, type ToolAnswer } from './edit-tool.ts';

/** FAT knows no owners and modes; all files look like this. */
const NO_ATTRIBUTES = { mode: 0o755, userId: 0, groupId: 0 };

/** Changes FAT filesystems through mtools. */
export class MtoolsEditor implements FilesystemEditor {
  readonly #image: string;
  readonly #signal: AbortSignal | undefined;

  constructor({ file, offsetBytes }: FilesystemPlace, signal?: AbortSignal) {
    this.#image = offsetBytes === 0 ? file : `${file}@@${offsetBytes}`;
    this.#signal = signal;
  }

  #run(tool: string, args: readonly string[]): Promise<ToolAnswer> {
    const path = args.findLast((arg) => arg.startsWith('::'));
    // mtools would take these as patterns, and delete more than was named.
    if (path !== undefined && /[*?[\]]/.test(path)) {
      throw new IngotError('path-refused', `${path.slice(2)} has characters of a pattern`, {
        path,
      });
    }
    return runTool(tool, {
      args: ['-i', this.#image, ...args],
      package: 'mtools',
      signal: this.#signal,
    });
  }

  async #must(tool: string, args: readonly string[]): Promise<void> {
    const { status, stderr } = await this.#run(tool, args);
    if (status === 0) return;
    const isFull = /full|no space/i.test(stderr);
    throw new IngotError(
      isFull ? 'target-full' : 'filesystem-malformed',
      `${tool} ended with ${status}: ${stderr.trim().slice(-300)}`,
      { status },
    );
  }

  prepare(): Promise<void> {
    // FAT has no journal, and mtools needs nothing mended.
    return Promise.resolve();
  }

  async find(path: string): Promise<EditorEntry | undefined> {
    if (path === '/') return { kind: 'folder', ...NO_ATTRIBUTES };
    // Only a folder can be listed with a slash behind it; only a file can be shown.
    const listed = await this.#run('mdir', ['-b', '-a', `::${path}/`]);
    if (listed.status === 0) return { kind: 'folder', ...NO_ATTRIBUTES };
    const shown = await this.#run('mattrib', [`::${path}`]);
    return shown.status === 0 ? { kind: 'file', ...NO_ATTRIBUTES } : undefined;
  }

  async #expectFolder(path: string): Promise<void> {
    if ((await this.find(path))?.kind === 'folder') return;
    throw new IngotError('file-not-found', `the image has no folder ${path}`, { path });
  }

  async copyOut(path: string, hostFile: string): Promise<void> {
    if ((await this.find(path))?.kind !== 'file') {
      throw new IngotError('file-not-found', `the image has no file ${path}`, { path });
    }
    await this.#must('mcopy', ['-n', `::${path}`, hostFile]);
  }

  async copyIn(hostFile: string, path: string, _attributes: FileAttributes): Promise<void> {
    await this.#expectFolder(dirname(path));
    await this.#must('mcopy', ['-o', hostFile, `::${path}`]);
  }

  async makeFolder(path: string): Promise<void> {
    const parts = path.split('/').filter((part) => part !== '');
    for (let count = 1; count <= parts.length; count++) {
      const folder = `/${parts.slice(0, count).join('/')}`;
      if ((await this.find(folder)) === undefined) await this.#must('mmd', [`::${folder}`]);
      await this.#expectFolder(folder);
    }
  }

  async remove(path: string, isRecursive: boolean): Promise<void> {
    const entry = await this.find(path);
    if (entry === undefined || path === '/') {
      throw new IngotError('file-not-found', `the image has no ${path} to remove`, { path });
    }
    if (entry.kind === 'file') return await this.#must('mdel', [`::${path}`]);
    if (isRecursive) return await this.#must('mdeltree', [`::${path}`]);
    const { status } = await this.#run('mrd', [`::${path}`]);
    if (status !== 0) {
      throw new IngotError('request-invalid', `${path} is a folder that is not empty (-r)`, {
        path,
      });
    }
  }
}
