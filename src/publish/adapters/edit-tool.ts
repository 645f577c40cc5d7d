import { spawn } from 'node:child_process';
import { errnoOf, IngotError } from '../../base/index.ts';

/** A tool says little; what is more than this is not kept. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Copying a large file into an image takes a while; no tool may hang for ever. */
const TIMEOUT_MS = 30 * 60 * 1000;

/** What a tool said. */
export interface ToolAnswer {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a tool is run. */
export interface ToolCall {
  readonly args: readonly string[];
  readonly input?: string;
  /** The Debian package that has it. */
  readonly package: string;
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs a tool to its end.
 *
 * @throws IngotError `tool-missing`; the signal's reason when it is aborted
 */
export async function runTool(tool: string, call: ToolCall): Promise<ToolAnswer> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = call.signal === undefined ? timeout : AbortSignal.any([call.signal, timeout]);
  signal.throwIfAborted();
  const child = spawn(tool, call.args, {
    stdio: 'pipe',
    signal,
    env: {
      ...process.env,
      LC_ALL: 'C',
      DEBUGFS_PAGER: '__none__',
      // Images of cards rarely have the geometry that mtools would like.
      MTOOLS_SKIP_CHECK: '1',
    },
  });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (piece: string) => {
      if (text[name].length < MAX_OUTPUT_BYTES) text[name] += piece;
    });
  }
  // A tool that ends before it has read its commands has said why on stderr.
  child.stdin.on('error', () => undefined);
  child.stdin.end(call.input ?? '');
  return await new Promise((resolve, reject) => {
    child.on('error', (cause) => {
      if (errnoOf(cause) === 'ENOENT') {
        const words = `${tool} is not installed (Debian package ${call.package})`;
        reject(new IngotError('tool-missing', words, { tool }, { cause }));
      } else {
        reject(signal.aborted ? signal.reason : cause);
      }
    });
    child.on('close', (status) => resolve({ status: status ?? -1, ...text }));
  });
}
