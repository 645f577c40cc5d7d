import { createRequire } from 'node:module';
import type { SingleBar } from 'cli-progress';
import { formatBytes, formatDuration, type ProgressReport } from '../../../base/index.ts';
import type { ProgressDisplay } from '../context.ts';

const PLAIN_LINE_EVERY_MS = 5000;

/** Loaded where there is a terminal: few commands of a script have one. */
function loadBar(): typeof SingleBar {
  const progress: typeof import('cli-progress') = createRequire(import.meta.url)('cli-progress');
  return progress.SingleBar;
}

interface Speed {
  readonly startedAt: number;
  readonly stage: string;
}

function rateAndEta(report: ProgressReport, speed: Speed): string {
  const seconds = (performance.now() - speed.startedAt) / 1000;
  if (seconds < 0.2 || report.doneBytes === 0) return '';
  const bytesPerSecond = report.doneBytes / seconds;
  const rate = `${formatBytes(Math.round(bytesPerSecond))}/s`;
  if (report.totalBytes === undefined) return rate;
  const leftMs = ((report.totalBytes - report.doneBytes) / bytesPerSecond) * 1000;
  return `${rate}, ${formatDuration(Math.max(0, leftMs))} left`;
}

function amount(report: ProgressReport): string {
  const done = formatBytes(report.doneBytes);
  return report.totalBytes === undefined ? done : `${done} of ${formatBytes(report.totalBytes)}`;
}

/** A bar that redraws itself, for a terminal. */
function barDisplay(label: string, stream: NodeJS.WriteStream): ProgressDisplay {
  const Bar = loadBar();
  let bar: SingleBar | undefined;
  let speed: Speed = { startedAt: performance.now(), stage: '' };
  return {
    onProgress: (report) => {
      if (report.stage !== speed.stage) {
        speed = { startedAt: performance.now(), stage: report.stage };
      }
      if (bar === undefined) {
        bar = new Bar({
          stream,
          format: `${label}: {stage} [{bar}] {amount} {rate}`,
          hideCursor: true,
          clearOnComplete: true,
          barsize: 24,
          fps: 8,
        });
        bar.start(report.totalBytes ?? 1, 0, { stage: report.stage, amount: '', rate: '' });
      }
      bar.setTotal(report.totalBytes ?? Math.max(1, report.doneBytes));
      bar.update(report.doneBytes, {
        stage: report.stage,
        amount: amount(report),
        rate: rateAndEta(report, speed),
      });
    },
    [Symbol.dispose]: () => {
      bar?.stop();
      bar = undefined;
    },
  };
}

/** A plain line every few seconds, for logs and pipes. */
function lineDisplay(label: string, stream: NodeJS.WritableStream): ProgressDisplay {
  let lastAt = performance.now();
  let speed: Speed = { startedAt: lastAt, stage: '' };
  return {
    onProgress: (report) => {
      const now = performance.now();
      if (report.stage !== speed.stage) speed = { startedAt: now, stage: report.stage };
      if (now - lastAt < PLAIN_LINE_EVERY_MS) return;
      lastAt = now;
      stream.write(`${label}: ${report.stage}: ${amount(report)} ${rateAndEta(report, speed)}\n`);
    },
    [Symbol.dispose]: () => undefined,
  };
}

/** Chooses the display that fits the stream; `quiet` shows nothing. */
export function progressDisplay(
  label: string,
  stream: NodeJS.WriteStream | NodeJS.WritableStream,
  { quiet }: { readonly quiet: boolean },
): ProgressDisplay {
  if (quiet) return { onProgress: () => undefined, [Symbol.dispose]: () => undefined };
  return 'isTTY' in stream && stream.isTTY ? barDisplay(label, stream) : lineDisplay(label, stream);
}
