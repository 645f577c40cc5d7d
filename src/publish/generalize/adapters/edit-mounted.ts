import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { mkdtemp, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { errnoOf, IngotError, NODE_FLAGS } from '../../../base/index.ts';
import { formatName } from '../../image-files/file-name.ts';
import type { GeneralizeStep } from '../plan.ts';
import type { FilesystemInFile } from './e2fsprogs.ts';
import { type EditAnswer, type MountRequest, stepLine } from './mounted-edit-lines.ts';

const PROGRAM = join(import.meta.dirname, 'mounted-editor-process.ts');
/** A log that is replayed, and many files that are removed. */
const TIMEOUT_MS = 30 * 60_000;
const MAX_COMPLAINT = 1000;

/** An XFS or btrfs inside of a file of our own. */
export interface MountableFilesystem extends FilesystemInFile {
  readonly filesystem: 'xfs' | 'btrfs';
  readonly sizeBytes: number;
}

/**
 * Carries out steps on a filesystem in a file, mounted in a namespace that nobody else sees.
 *
 * No steps: the log is replayed, as at any mount. Links of the image are never followed. Root is
 * needed, and the kernel's driver reads what the image holds.
 *
 * @param folder of our own, in which the mount point is made
 * @throws IngotError `not-root` (also where no namespace can be made), `tool-missing`, `filesystem-malformed`
 *   when it cannot be mounted or a step fails
 */
export async function editMounted(
  { path, offsetBytes, sizeBytes, filesystem }: MountableFilesystem,
  steps: readonly GeneralizeStep[],
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
): Promise<void> {
  if (process.geteuid?.() !== 0) {
    throw new IngotError('not-root', `only root can mount ${filesystem} to change files in it`);
  }
  const mountPoint = await mkdtemp(join(folder, 'mounted-'));
  const file = await realpath(path);
  const request = { file, offsetBytes, sizeBytes, filesystem, mountPoint };
  const limited = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  await using child = startEditor(limited);
  await child.send({ ...request, outerNamespace: readlinkSync('/proc/self/ns/mnt') }, steps);
  const answer = await child.lastAnswer();
  limited.throwIfAborted();
  if (answer?.state !== 'done') throw refused(filesystem, answer, child.complaint());
  await rmdir(mountPoint);
}

function refused(
  filesystem: string,
  answer: EditAnswer | undefined,
  complaint: string,
): IngotError {
  if (answer?.state !== 'failed') {
    const words = `the editor of ${filesystem} ended early: ${formatName(Buffer.from(complaint))}`;
    return new IngotError('not-root', words);
  }
  if (answer.errno === 'ENOENT' && answer.words.startsWith('spawn')) {
    return new IngotError('tool-missing', 'mount is not installed (Debian package mount)');
  }
  const words = formatName(Buffer.from(answer.words));
  return new IngotError('filesystem-malformed', `${filesystem} in the image: ${words}`);
}

interface Editor extends AsyncDisposable {
  send(request: MountRequest, steps: readonly GeneralizeStep[]): Promise<void>;
  lastAnswer(): Promise<EditAnswer | undefined>;
  /** What unshare said. */
  complaint(): string;
}

function startEditor(signal: AbortSignal): Editor {
  const program = [process.execPath, ...NODE_FLAGS, PROGRAM];
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', '--', ...program],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: '/',
      env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
      signal,
      killSignal: 'SIGKILL',
    },
  );
  const ended = new Promise<Error | undefined>((resolve) => {
    child.once('error', resolve);
    child.once('close', () => resolve(undefined));
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-MAX_COMPLAINT);
  });
  return {
    // A program that ends before it has read all has said why; only that counts.
    send: (request, steps) =>
      pipeline(linesOf(request, steps), child.stdin, { signal }).catch(() => undefined),
    complaint: () => complaint.trim(),
    lastAnswer: async () => {
      let last: EditAnswer | undefined;
      for await (const line of createInterface({ input: child.stdout })) {
        last = JSON.parse(line) as EditAnswer;
      }
      const problem = await ended;
      if (errnoOf(problem) === 'ENOENT') {
        const words = 'unshare is not installed (Debian package util-linux)';
        throw new IngotError('tool-missing', words, { tool: 'unshare' }, { cause: problem });
      }
      return last;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function* linesOf(
  request: MountRequest,
  steps: readonly GeneralizeStep[],
): Generator<string, void, undefined> {
  yield `${JSON.stringify(request)}\n`;
  for (const step of steps) yield stepLine(step);
  yield '"end"\n';
}
