import type { OnProgress } from '../../base/index.ts';

/**
 * What every command is given. Data goes to `stdout`, words to `stderr`; a test hands in its own.
 */
export interface CliContext {
  readonly stdout: NodeJS.WriteStream | NodeJS.WritableStream;
  readonly stderr: NodeJS.WriteStream | NodeJS.WritableStream;
  readonly stdin: NodeJS.ReadStream | NodeJS.ReadableStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP; the command then cleans up and ends with 130. */
  readonly signal: AbortSignal;
  /** Shows progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere. */
  progress(label: string): ProgressDisplay;
  /** A command that runs until a signal ends it has done what it should: its status is 0. */
  endedAsAsked(): void;
}

/** A progress display that must be ended, whatever happens (`using`). */
export interface ProgressDisplay extends Disposable {
  readonly onProgress: OnProgress;
}
