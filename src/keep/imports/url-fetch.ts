import { type Clock, type Id, IngotError, isFailure } from '../../base/index.ts';
import type { JobControl } from '../jobs/job-runner.ts';
import type { IncomingFiles } from './incoming-files.ts';
import type { UploadSpool } from './upload-spool.ts';
import { importUrl, type OpenUrl, shownUrl, type UrlPart, type UrlVersion } from './url-source.ts';

/** What a fetch works with. */
export interface UrlFetchParts {
  readonly openUrl: OpenUrl;
  readonly spool: UploadSpool;
  readonly files: IncomingFiles;
  readonly clock: Clock;
}

/** Breaks in a row without a byte between them. */
const MAX_FAILURES = 6;
const MAX_TRIES = 1000;
const MAX_PAUSE_MS = 30_000;
/** A server that sends a byte now and then must not hold a place for ever. */
const MAX_FETCH_MS = 24 * 3_600_000;

const NOTHING_KNOWN: UrlVersion = { validator: undefined, totalBytes: undefined };

/**
 * Fetches a file into the spool, and goes on where the connection broke: also after a restart, as
 * long as the server names the version. Where it does not, each break begins anew.
 *
 * @throws IngotError `source-not-found`, `source-unreadable`, `source-unsupported`, `not-allowed`,
 *   `request-too-large`, `library-full`; the signal's reason
 */
export async function fetchFile(
  parts: UrlFetchParts,
  file: { readonly imageId: Id<'img'>; readonly url: string; readonly isHashed: boolean },
  control: JobControl,
): Promise<void> {
  const { spool, clock } = parts;
  const { imageId } = file;
  const startedAt = clock.monotonic();
  let known = versionOf(control.checkpoint);
  let failures = 0;
  for (let tries = 1; ; tries++) {
    const before = known.validator === undefined ? 0 : await spool.sizeOf(imageId);
    if (before > 0 && before === known.totalBytes) return;
    try {
      const part = await parts.openUrl(
        importUrl(file.url),
        { offsetBytes: before, validator: known.validator },
        control.signal,
      );
      known = await begin(parts, file, { part, known, control });
      if (await receive(parts, file, { part, control })) return;
      throw new IngotError('source-unreadable', `${shownUrl(importUrl(file.url))} ended early`);
    } catch (thrown) {
      control.signal.throwIfAborted();
      if (!isFailure(thrown, 'source-unreadable')) throw thrown;
      const sizeBytes = await spool.sizeOf(imageId);
      if (sizeBytes === 0) known = NOTHING_KNOWN;
      failures = sizeBytes > before ? 1 : failures + 1;
      const isOver = clock.monotonic() - startedAt > MAX_FETCH_MS || tries >= MAX_TRIES;
      if (isOver || failures > MAX_FAILURES) throw thrown;
      await clock.sleep(Math.min(1000 * 2 ** (failures - 1), MAX_PAUSE_MS), control.signal);
    }
  }
}

/** Makes room for a part, and keeps what is known of its version. */
async function begin(
  { files }: UrlFetchParts,
  { imageId }: { readonly imageId: Id<'img'> },
  given: { readonly part: UrlPart; readonly known: UrlVersion; readonly control: JobControl },
): Promise<UrlVersion> {
  const { part, known, control } = given;
  const { offsetBytes, validator, totalBytes } = part;
  if (offsetBytes === 0) {
    await files.truncate(imageId, 0);
  } else if (validator !== undefined && validator !== known.validator) {
    // The rest of another version: what is here is worth nothing.
    await files.truncate(imageId, 0);
    await control.keep('');
    throw new IngotError('source-unreadable', 'the server gave the rest of another file');
  }
  if (totalBytes !== undefined) await files.checkRoom(offsetBytes, totalBytes);
  const version = { validator: validator ?? known.validator, totalBytes };
  await control.keep(JSON.stringify(version));
  return version;
}

/** @returns whether the file is whole */
async function receive(
  { files, spool }: UrlFetchParts,
  { imageId, isHashed }: { readonly imageId: Id<'img'>; readonly isHashed: boolean },
  { part, control }: { readonly part: UrlPart; readonly control: JobControl },
): Promise<boolean> {
  const { totalBytes } = part;
  await files.append(imageId, part.body, {
    totalBytes,
    isHashed,
    onBytes: (doneBytes) => control.onProgress({ doneBytes, totalBytes, stage: 'fetching' }),
  });
  return totalBytes === undefined || (await spool.sizeOf(imageId)) === totalBytes;
}

function versionOf(checkpoint: string): UrlVersion {
  if (checkpoint === '') return NOTHING_KNOWN;
  return { ...NOTHING_KNOWN, ...(JSON.parse(checkpoint) as Partial<UrlVersion>) };
}
