import { stat } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import { type Artifact, type ReadArtifactOptions, readArtifact } from '../../../../bytes/index.ts';
import type { CliContext } from '../../context.ts';
import { readFilePieces } from './payload-file.ts';
import { progressOf } from './run-write.ts';

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const status = await stat(path);
    if (status.isDirectory()) {
      throw new IngotError('source-unsupported', `${path} is a folder`, { path });
    }
    return status.isFile() ? status.size : undefined;
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT') throw cause;
    throw new IngotError('file-not-found', `no file ${path}`, { path }, { cause });
  }
}

/** Options of {@link readArtifactFile} beside those of the reader. */
export interface ReadFileOptions extends ReadArtifactOptions {
  /** False shows no progress. */
  readonly progress: boolean;
}

/**
 * Reads an artifact from a file to its end, with progress.
 *
 * @throws IngotError of the reader, `file-not-found`, `source-unreadable`
 */
export async function readArtifactFile(
  path: string,
  options: ReadFileOptions,
  context: CliContext,
): Promise<Artifact> {
  const totalBytes = await sizeOf(path);
  using display = progressOf(context, options.progress, 'artifact');
  async function* pieces(): AsyncGenerator<Buffer, void, undefined> {
    let doneBytes = 0;
    for await (const piece of readFilePieces(path)) {
      context.signal.throwIfAborted();
      doneBytes += piece.length;
      display.onProgress({ doneBytes, totalBytes, stage: 'reading' });
      yield piece;
    }
  }
  return await readArtifact(pieces(), options);
}
