import { formatBytes, type OnProgress } from '../../../../base/index.ts';
import type { ArtifactTarget } from '../../../../publish/index.ts';
import type { CliContext, ProgressDisplay } from '../../context.ts';
import { openOutput, withMaxSize } from './output-file.ts';

/** Where an artifact goes and what is said about it. */
export interface WriteRun {
  readonly outputPath: string;
  /** False with `--no-progress`. */
  readonly progress: boolean;
  readonly maxArtifactSize?: number | undefined;
  readonly warnArtifactSize?: number | undefined;
}

/** A display for a command that has `--no-progress`. */
export function progressOf(context: CliContext, isShown: boolean, label: string): ProgressDisplay {
  if (isShown) return context.progress(label);
  return { onProgress: () => undefined, [Symbol.dispose]: () => undefined };
}

/**
 * Runs what writes an artifact, and makes its file appear: whole or not at all.
 *
 * @param write is given the target, and what tells it of progress and cancellation
 */
export async function runWrite(
  context: CliContext,
  run: WriteRun,
  write: (
    target: ArtifactTarget,
    run: { readonly onProgress: OnProgress; readonly signal: AbortSignal },
  ) => Promise<{ readonly sizeBytes: number }>,
): Promise<void> {
  await using output = await openOutput(run.outputPath, context);
  using display = progressOf(context, run.progress, 'artifact');
  const { sizeBytes } = await write(withMaxSize(output, run.maxArtifactSize), {
    onProgress: display.onProgress,
    signal: context.signal,
  });
  context.signal.throwIfAborted();
  await output.commit();
  display[Symbol.dispose]();
  if (run.warnArtifactSize !== undefined && sizeBytes > run.warnArtifactSize) {
    context.stderr.write(
      `warning: the artifact has ${sizeBytes} bytes, more than ${run.warnArtifactSize}\n`,
    );
  }
  if (run.progress) context.stderr.write(`${output.name}: ${formatBytes(sizeBytes)}\n`);
}
