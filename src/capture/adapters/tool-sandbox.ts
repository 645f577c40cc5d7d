import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, IngotError, KIB, MIB, systemClock } from '../../base/index.ts';

/** Path that a tool in the sandbox has for its one input. */
export const SANDBOX_INPUT = '/job/input';
/** And for its own folder. */
const SANDBOX_OUTPUT = '/job/output';

/** What a tool may take. */
export interface ToolLimits {
  readonly cpuSeconds: number;
  readonly addressSpaceBytes: number;
  /** Size of a file that it writes. */
  readonly fileBytes: number;
  readonly timeoutMs: number;
}

/** One run of a tool that reads hostile bytes. */
export interface ToolRun {
  readonly tool: string;
  readonly packageName: string;
  /** Given the paths that the tool has for its input and its output folder. */
  readonly argv: (paths: { readonly input: string; readonly output: string }) => readonly string[];
  /** The one file that it may read. */
  readonly inputPath: string;
  /** The one folder that it may write. */
  readonly outputFolder: string;
  readonly limits: ToolLimits;
  readonly signal: AbortSignal;
  /** Called each second; the tool is killed with what it throws. */
  readonly watch?: () => Promise<void>;
  readonly onStdout?: (text: string) => void;
}

/** How a tool ended. */
export interface ToolEnd {
  /** Exit status; -1 when a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether it ran in namespaces of its own, without network and other files. */
  readonly isIsolated: boolean;
}

/** What is kept of each stream of words. */
const MAX_WORDS = 64 * KIB;
const WATCH_MS = 1000;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** User, mount, network, IPC and process namespaces; all that is inside dies with the first process. */
const NAMESPACES = [
  ...['--user', '--map-root-user', '--mount', '--net', '--ipc', '--uts', '--pid'],
  ...['--fork', '--kill-child'],
];

/**
 * Makes a root of its own in a mount namespace: the system's programs and libraries, read-only; the
 * input, read-only; the output folder. Then runs the rest of its words there.
 */
const ISOLATE = `set -eu
root=$1 input=$2 output=$3
shift 3
mount -t tmpfs -o mode=755,size=1m none "$root"
for name in bin lib lib32 lib64 libx32 usr; do
  if [ -L "/$name" ]; then
    ln -s "$(readlink "/$name")" "$root/$name"
  elif [ -d "/$name" ]; then
    mkdir "$root/$name"
    mount --rbind "/$name" "$root/$name"
    mount -o remount,bind,ro "$root/$name"
  fi
done
mkdir "$root/etc" "$root/dev" "$root/job" "$root/job/output"
for file in /etc/ld.so.cache /dev/null; do
  [ -e "$file" ] || continue
  : > "$root$file"
  mount --bind "$file" "$root$file"
done
: > "$root/job/input"
mount --bind "$input" "$root/job/input"
mount -o remount,bind,ro "$root/job/input"
mount --bind "$output" "$root/job/output"
cd /
exec chroot "$root" "$@"
`;

/**
 * Runs a tool on bytes that may be hostile: limits on processor time, memory and file size, an
 * environment that says nothing, and, where the system lets this user have them, namespaces in which
 * there is no network and no file but its own.
 *
 * @throws IngotError `tool-missing`, `source-unsupported` when it takes too long; the signal's
 *   reason; what `watch` throws
 */
export async function runInSandbox(run: ToolRun): Promise<ToolEnd> {
  const isolated = await runIsolated(run);
  if (isolated !== undefined) return isolated;
  const paths = { input: run.inputPath, output: run.outputFolder };
  const end = await finish(run, limited(run, run.argv(paths)));
  return { ...end, isIsolated: false };
}

/** @returns undefined when this user may not have namespaces here */
async function runIsolated(run: ToolRun): Promise<ToolEnd | undefined> {
  await using undo = new AsyncDisposableStack();
  const folder = await mkdtemp(join(run.outputFolder, '.root-'));
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const root = join(folder, 'root');
  await mkdir(root);
  const isolate = (tool: readonly string[]): string[] => [
    ...['unshare', ...NAMESPACES, 'sh', '-c', ISOLATE, 'sh'],
    ...[root, run.inputPath, run.outputFolder, ...tool],
  ];
  const probe = await finish({ ...run, onStdout: () => undefined }, isolate(['true'])).catch(
    (thrown: unknown) => {
      run.signal.throwIfAborted();
      if (thrown instanceof IngotError && thrown.code === 'tool-missing') return undefined;
      throw thrown;
    },
  );
  if (probe?.status !== 0) return undefined;
  const paths = { input: SANDBOX_INPUT, output: SANDBOX_OUTPUT };
  const end = await finish(run, isolate(limited(run, run.argv(paths))));
  return { ...end, isIsolated: true };
}

function limited({ tool, limits }: ToolRun, argv: readonly string[]): string[] {
  return [
    'prlimit',
    `--cpu=${limits.cpuSeconds}`,
    `--as=${limits.addressSpaceBytes}`,
    `--fsize=${limits.fileBytes}`,
    '--nofile=64',
    '--core=0',
    tool,
    ...argv,
  ];
}

async function finish(
  run: ToolRun,
  [program = '', ...argv]: readonly string[],
): Promise<Omit<ToolEnd, 'isIsolated'>> {
  const { tool, packageName, limits, signal, watch } = run;
  signal.throwIfAborted();
  const child = spawn(program, argv, {
    cwd: '/',
    env: { PATH, LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stop = new AbortController();
  let reason: unknown;
  const kill = (why: unknown): void => {
    reason ??= why;
    child.kill('SIGKILL');
  };
  const onAbort = (): void => kill(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const watching = watchOver(stop.signal, limits.timeoutMs, tool, watch).catch(kill);
  try {
    const words = wordsOf(child, run.onStdout);
    const [status] = (await once(child, 'close')) as [number | null];
    if (reason !== undefined) throw reason;
    if (status === 127) throw missing(tool, packageName);
    return { status: status ?? -1, ...words() };
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') throw missing(program, 'util-linux', thrown);
    throw thrown;
  } finally {
    stop.abort();
    signal.removeEventListener('abort', onAbort);
    await watching;
  }
}

async function watchOver(
  stopped: AbortSignal,
  timeoutMs: number,
  tool: string,
  watch: ToolRun['watch'],
): Promise<void> {
  const startedAt = systemClock.monotonic();
  for (;;) {
    try {
      await systemClock.sleep(WATCH_MS, stopped);
    } catch {
      return;
    }
    if (systemClock.monotonic() - startedAt > timeoutMs) {
      throw new IngotError('source-unsupported', `${tool} took longer than ${timeoutMs} ms`);
    }
    await watch?.();
  }
}

/** Gathers what the tool says, within limits. */
function wordsOf(
  child: ChildProcess,
  onStdout: ((text: string) => void) | undefined,
): () => { readonly stdout: string; readonly stderr: string } {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    if (onStdout !== undefined) onStdout(text);
    else if (stdout.length < MAX_WORDS) stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < MAX_WORDS) stderr += text;
  });
  return () => ({ stdout, stderr });
}

function missing(tool: string, packageName: string, cause?: unknown): IngotError {
  const message = `${tool} is not installed (Debian package ${packageName})`;
  return new IngotError('tool-missing', message, { tool }, { cause });
}

/** What a tool may take unless something else is said. */
export const SMALL_TOOL_LIMITS: ToolLimits = {
  cpuSeconds: 60,
  addressSpaceBytes: 2048 * MIB,
  fileBytes: MIB,
  timeoutMs: 120_000,
};
