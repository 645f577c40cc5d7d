import { formatBytes } from '../../../../base/index.ts';
import { type WriteArtifactRequest, writeArtifact } from '../../../../publish/index.ts';
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

/** Writes an artifact where the options say, whole or not at all. */
export async function runWrite(
  context: CliContext,
  request: Omit<WriteArtifactRequest, 'onProgress' | 'signal'>,
  run: WriteRun,
): Promise<void> {
  await using output = await openOutput(run.outputPath, context);
  using display = progressOf(context, run.progress, 'artifact');
  const { sizeBytes } = await writeArtifact(
    { ...request, onProgress: display.onProgress, signal: context.signal },
    withMaxSize(output, run.maxArtifactSize),
  );
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
