import { z } from 'zod';
import {
  type Digest,
  digestBytes,
  type Id,
  IngotError,
  isFailure,
  isId,
} from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type {
  Image,
  ImageDescription,
  IngestSession,
  IngestSummary,
  IngestTarget,
  ManifestEntry,
} from '../../keep/index.ts';
import {
  BYTES_MEDIA_TYPE,
  decodeBitmap,
  descriptionToWire,
  encodeManifest,
  encodeSegments,
  imageFromWire,
  imageSchema,
  MANIFEST_MEDIA_TYPE,
  SEGMENTS_MEDIA_TYPE,
} from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { readAnswer } from './http-connection.ts';

/** A commit syncs and checks everything before it answers: that may take long on a slow disk. */
const COMMIT_TIMEOUT_MS = 60 * 60_000;
/** Nobody waits longer to say that it gives up. */
const ABORT_TIMEOUT_MS = 5000;

/**
 * Brings images into the library of a daemon.
 *
 * @see docs/formats/native-wire.md
 */
export class HttpIngestTarget implements IngestTarget {
  readonly #client: DaemonClient;

  constructor(client: DaemonClient) {
    this.#client = client;
  }

  async begin(description: ImageDescription): Promise<IngestSession> {
    const { id } = await this.#client.json(
      z.object({ id: z.string() }),
      { method: 'POST', path: '/ingests' },
      descriptionToWire(description),
    );
    if (!isId('ing', id))
      throw new IngotError('daemon-protocol', `the daemon named a session ${id}`);
    return new HttpIngestSession(this.#client, id);
  }
}

class HttpIngestSession implements IngestSession {
  readonly #client: DaemonClient;
  readonly #path: string;
  #isOver = false;

  constructor(client: DaemonClient, id: Id<'ing'>) {
    this.#client = client;
    this.#path = `/ingests/${id}`;
  }

  async have(digests: readonly Digest[]): Promise<boolean[]> {
    this.#mustBeOpen();
    if (digests.length === 0) return [];
    const answer = await this.#client.call({
      method: 'POST',
      path: `${this.#path}/have`,
      headers: { 'content-type': BYTES_MEDIA_TYPE },
      body: [Buffer.concat(digests.map(digestBytes))],
      isIdempotent: true,
    });
    const bitmap = await readAnswer(answer);
    if (bitmap.byteLength !== Math.ceil(digests.length / 8)) {
      throw new IngotError(
        'daemon-protocol',
        `${bitmap.byteLength} bytes answer ${digests.length} digests`,
      );
    }
    return decodeBitmap(bitmap, digests.length);
  }

  async put(segments: readonly Segment[]): Promise<void> {
    this.#mustBeOpen();
    if (segments.length === 0) return;
    const answer = await this.#client.call({
      method: 'POST',
      path: `${this.#path}/segments`,
      headers: { 'content-type': SEGMENTS_MEDIA_TYPE },
      body: encodeSegments(segments),
      isIdempotent: true,
    });
    await readAnswer(answer);
  }

  async commit(
    entries: AsyncIterable<readonly ManifestEntry[]>,
    summary: IngestSummary,
  ): Promise<Image> {
    this.#mustBeOpen();
    try {
      return await this.#commitOnce(encodeManifest(entries, summary));
    } catch (thrown) {
      if (!isFailure(thrown, 'daemon-unreachable')) throw thrown;
      // The answer may have been lost, not the commit: who asks again gets the image, or no session.
      return await this.#commitOnce([]).catch(() => {
        throw thrown;
      });
    }
  }

  async abort(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      const answer = await this.#client.call({
        method: 'DELETE',
        path: this.#path,
        timeoutMs: ABORT_TIMEOUT_MS,
        isIdempotent: false,
        isCleanup: true,
      });
      await readAnswer(answer);
    } catch {
      // A daemon that cannot be told gives the session up by itself.
    }
  }

  #mustBeOpen(): void {
    if (this.#isOver) throw new IngotError('ingest-expired', 'the ingest is over');
  }

  async #commitOnce(body: AsyncIterable<Uint8Array> | readonly Uint8Array[]): Promise<Image> {
    const answer = await this.#client.call({
      method: 'POST',
      path: `${this.#path}/commit`,
      headers: { 'content-type': MANIFEST_MEDIA_TYPE },
      body,
      timeoutMs: COMMIT_TIMEOUT_MS,
      isIdempotent: true,
    });
    const json: unknown = JSON.parse((await readAnswer(answer)).toString('utf8'));
    const image = imageFromWire(imageSchema.parse(json));
    this.#isOver = true;
    return image;
  }
}
