/** Runs whole processes and reads what the kernel counted for them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One finished run. */
export interface Run {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  /** The largest single process of it. */
  readonly peakMemoryMb: number;
  /** What it wrote to disks: its output, and temporary files. */
  readonly writtenMb: number;
}

/**
 * Times one shell command with GNU time, output thrown away.
 *
 * @throws Error when the command fails: a figure of a failed run means nothing
 */
export function timeOnce(command: string, env: Readonly<Record<string, string>> = {}): Run {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-time-'));
  const report = join(folder, 'time');
  try {
    const done = spawnSync(
      '/usr/bin/time',
      ['-f', '%e %U %S %M %O', '-o', report, 'bash', '-o', 'pipefail', '-c', command],
      { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 256 * 1024 * 1024 },
    );
    if (done.status !== 0) {
      throw new Error(`${command} ended with ${done.status}: ${done.stderr.slice(-2000)}`);
    }
    const line = readFileSync(report, 'utf8').trim().split('\n').at(-1) ?? '';
    const [wall, user, system, peak, blocks] = line.split(' ').map(Number);
    return {
      wallSeconds: wall ?? Number.NaN,
      cpuSeconds: (user ?? Number.NaN) + (system ?? Number.NaN),
      peakMemoryMb: (peak ?? Number.NaN) / 1024,
      writtenMb: ((blocks ?? Number.NaN) * 512) / 1e6,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @returns the middle value; of an even count the lower middle */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

/** What is compared: a name, what makes ready (not timed), and the command. */
export interface Contestant {
  readonly name: string;
  readonly prepare?: () => void;
  readonly command: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Medians of one contestant over the rounds. */
export interface Standing extends Run {
  readonly name: string;
}

/** Runs all contestants in turn, `rounds` times, so that drift of the machine hits all alike. */
export function compare(contestants: readonly Contestant[], rounds: number): Standing[] {
  const runs = new Map<string, Run[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const contestant of contestants) {
      contestant.prepare?.();
      runs.get(contestant.name)?.push(timeOnce(contestant.command, contestant.env));
    }
  }
  return contestants.map(({ name }) => {
    const own = runs.get(name) ?? [];
    return {
      name,
      wallSeconds: median(own.map((run) => run.wallSeconds)),
      cpuSeconds: median(own.map((run) => run.cpuSeconds)),
      peakMemoryMb: median(own.map((run) => run.peakMemoryMb)),
      writtenMb: median(own.map((run) => run.writtenMb)),
    };
  });
}

/** Formats standings as a Markdown table with ratios against the first one. */
export function table(title: string, standings: readonly Standing[]): string {
  const first = standings[0];
  const lines = [
    `### ${title}`,
    '',
    '| | wall s | CPU s | peak MB | written MB | wall, against the first |',
    '|---|---|---|---|---|---|',
  ];
  for (const standing of standings) {
    const ratio = standing.wallSeconds / (first?.wallSeconds ?? Number.NaN);
    lines.push(
      `| ${standing.name} | ${standing.wallSeconds.toFixed(2)} | ${standing.cpuSeconds.toFixed(2)} | ${standing.peakMemoryMb.toFixed(0)} | ${standing.writtenMb.toFixed(0)} | ${ratio.toFixed(2)} |`,
    );
  }
  return `${lines.join('\n')}\n`;
}
