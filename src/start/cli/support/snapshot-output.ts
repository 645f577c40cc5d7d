import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { InvalidArgumentError } from '@commander-js/extra-typings';
import { formatBytes, formatDuration, parseDuration } from '../../../base/index.ts';
import type { ForbiddenPath } from '../../../capture/adapters/open-snapshot-source.ts';
import type { DumpReport } from '../../../capture/index.ts';
import type { CliContext } from '../context.ts';

/** Parses the value of `--max-freeze`. */
export function durationOption(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms <= 0) throw new InvalidArgumentError('such as 90s or 5m.');
  return ms;
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

/** Says on stderr what a snapshot was. */
export function sayReport(context: CliContext, report: DumpReport, isJson: boolean): void {
  const { sizeBytes, allocatedBytes, writtenBytes, elapsedMs, capture } = report;
  const words =
    `${formatBytes(sizeBytes)}, ${formatBytes(allocatedBytes)} of it copied as ` +
    `${formatBytes(writtenBytes)} in ${formatDuration(elapsedMs)}; ` +
    `frozen for ${formatDuration(capture.freezeMs)}, consistency: ${capture.consistency}`;
  for (const notice of isJson ? [] : report.notices) context.stderr.write(`note: ${notice}\n`);
  context.stderr.write(isJson ? `${JSON.stringify(report)}\n` : `${words}\n`);
}
