import { fstatSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { formatBytes, formatDuration, type OnProgress, systemClock } from '../../../base/index.ts';
import type { ForbiddenPath } from '../../../capture/adapters/open-snapshot-source.ts';
import {
  type DumpReport,
  type DumpTarget,
  dumpSnapshot,
  type SnapshotSource,
  type StreamCompressor,
} from '../../../capture/index.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';
import { type EditOptions, openEdited } from './edit-disk-file.ts';

/** A log's pipe may end on the frozen filesystem, and then whoever writes to it waits. */
export function isPipe(fd: number): boolean {
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket();
}

/** What is written while the source is frozen. */
export function writtenWhileFrozen(output: string | undefined): ForbiddenPath[] {
  return [
    output === undefined
      ? { label: 'stdout', path: '/proc/self/fd/1' }
      : { label: output, path: dirname(resolve(output)) },
    { label: 'stderr', path: '/proc/self/fd/2' },
    { label: `the folder for temporary files (${tmpdir()})`, path: tmpdir() },
  ];
}

/** What is written while a source is frozen that goes into the library. */
export function writtenWhileImporting(
  context: CliContext,
  { folder, profile }: { readonly folder: string; readonly profile: string | undefined },
): ForbiddenPath[] {
  const { data } = chooseProfile(context.env, profile);
  return [
    { label: 'stdout', path: '/proc/self/fd/1' },
    { label: 'stderr', path: '/proc/self/fd/2' },
    { label: `the spool in ${folder}`, path: folder },
    ...(data === undefined ? [] : [{ label: `the library in ${data}`, path: data }]),
  ];
}

/** A capture on its way to a file or a pipe. */
export interface SnapshotOutput {
  readonly source: SnapshotSource;
  readonly target: DumpTarget;
  readonly compressor: StreamCompressor | undefined;
  /** The path of a file target; undefined for stdout. */
  readonly output: string | undefined;
  /** Undefined: a display on stderr. */
  readonly onProgress: OnProgress | undefined;
}

/** The flags of a command that writes a snapshot. */
export interface SnapshotOutputOptions extends EditOptions {
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Writes a capture, edited where that is asked for, and says on stderr what it was.
 *
 * @throws IngotError the failures of the source, of the target and of edits
 */
export async function writeSnapshot(
  context: CliContext,
  { source: captured, target, compressor, output, onProgress }: SnapshotOutput,
  options: SnapshotOutputOptions,
): Promise<void> {
  const startedAt = performance.now();
  const spoolFolder = editFolder(output);
  await using edited = await openEdited(context, captured, { ...options, spoolFolder });
  using progress = context.progress('snapshot');
  const report = await dumpSnapshot({
    source: edited ?? captured,
    target,
    compressor,
    onProgress: onProgress ?? progress.onProgress,
    signal: context.signal,
    clock: systemClock,
  });
  progress[Symbol.dispose]();
  if (options.quiet === true && options.json !== true) return;
  const elapsedMs = performance.now() - startedAt;
  sayReport(context, { ...report, elapsedMs }, options.json === true);
}

/** The copy that is edited lies beside a file, where the room is, else among temporary files. */
function editFolder(output: string | undefined): string {
  if (output === undefined) return tmpdir();
  const stat = statSync(output, { throwIfNoEntry: false });
  return stat === undefined || stat.isFile() ? dirname(resolve(output)) : tmpdir();
}

function sayReport(context: CliContext, report: DumpReport, isJson: boolean): void {
  const { sizeBytes, allocatedBytes, writtenBytes, elapsedMs, capture } = report;
  const words =
    `${formatBytes(sizeBytes)}, ${formatBytes(allocatedBytes)} of it copied as ` +
    `${formatBytes(writtenBytes)} in ${formatDuration(elapsedMs)}; ` +
    `frozen for ${formatDuration(capture.freezeMs)}, consistency: ${capture.consistency}`;
  for (const notice of isJson ? [] : report.notices) context.stderr.write(`note: ${notice}\n`);
  context.stderr.write(isJson ? `${JSON.stringify(report)}\n` : `${words}\n`);
}
