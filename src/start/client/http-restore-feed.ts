import { type Clock, type Id, IngotError, isFailure, MIB, systemClock } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type { FeedChunk, FeedEntry, FeedPage, RestoreFeed } from '../../publish/index.ts';
import { decodePage, decodePages, decodeSegments, encodeIndices } from '../../serve/index.ts';
import type { ApiCall, DaemonClient } from './daemon-client.ts';
import { readAnswer } from './http-connection.ts';
import { refusedPauseMs } from './refused-pause.ts';

/** Pauses before an answer that broke off is asked for again. */
const RETRY_PAUSES_MS = [250, 1000, 3000];
/** How long a daemon may go on saying that it has no room for an answer now. */
const MAX_REFUSED_MS = 30 * 60_000;
/** Answers whose memory is kept for the next ones: a restore has few under way at once. */
const MAX_SPARE = 6;

/**
 * Feeds a restore from the library of a daemon.
 *
 * @see docs/formats/native-wire.md
 */
export class HttpRestoreFeed implements RestoreFeed {
  readonly name: string;
  readonly sizeBytes: number;
  readonly pages: readonly FeedPage[];
  readonly #client: DaemonClient;
  readonly #clock: Clock;
  /** Memory of answers that came back. */
  readonly #spare: Buffer[] = [];
  /** Memory of answers that are out. */
  readonly #lent = new WeakSet<ArrayBufferLike>();

  private constructor(setup: {
    readonly client: DaemonClient;
    readonly clock: Clock;
    readonly name: string;
    readonly sizeBytes: number;
    readonly pages: readonly FeedPage[];
  }) {
    this.#client = setup.client;
    this.#clock = setup.clock;
    this.name = setup.name;
    this.sizeBytes = setup.sizeBytes;
    this.pages = setup.pages;
  }

  /** @throws IngotError `image-not-found`, `image-not-ready`, `daemon-unreachable` */
  static async open(client: DaemonClient, id: Id<'img'>): Promise<HttpRestoreFeed> {
    const clock = systemClock;
    const call: ApiCall = { method: 'GET', path: `/images/${id}/manifest` };
    const { sizeBytes, plainBytes } = decodePages(await fetchWhole(client, clock, call));
    const pages: FeedPage[] = [];
    let start = 0;
    for (const length of plainBytes) {
      pages.push({ plainStartBytes: start, plainBytes: length });
      start += length;
    }
    return new HttpRestoreFeed({ client, clock, name: id, sizeBytes, pages });
  }

  async page(index: number): Promise<readonly FeedEntry[]> {
    const path = `/images/${this.name}/manifest/${index}`;
    const entries = decodePage(
      await fetchWhole(this.#client, this.#clock, { method: 'GET', path }),
    );
    return entries.map(
      (entry, entryIndex): FeedEntry =>
        entry.kind === 'hole' ? entry : { ...entry, pageIndex: index, entryIndex },
    );
  }

  async readCoded(
    chunks: readonly FeedChunk[],
    signal?: AbortSignal,
  ): Promise<readonly Uint8Array[]> {
    const byPage = Map.groupBy(chunks, ({ pageIndex }) => pageIndex);
    const found = new Map<FeedChunk, Uint8Array>();
    await Promise.all(
      [...byPage].map(async ([page, wanted]) => {
        signal?.throwIfAborted();
        const path = `/images/${this.name}/chunks/${page}`;
        const indices = encodeIndices(wanted.map(({ entryIndex }) => entryIndex));
        const body = await patiently(
          this.#clock,
          () => this.#client.bytes(path, indices, (lengthBytes) => this.#allocate(lengthBytes)),
          signal,
        );
        const segments = decodeAnswer(body);
        for (const [i, chunk] of wanted.entries()) {
          const segment = segments[i];
          if (segment?.digest === chunk.digest) found.set(chunk, segment.coded);
        }
      }),
    );
    return chunks.map((chunk) => {
      const coded = found.get(chunk);
      if (coded === undefined) {
        throw new IngotError('chunk-missing', `the daemon gave no chunk ${chunk.digest}`);
      }
      return coded;
    });
  }

  giveBack(coded: readonly Uint8Array[]): void {
    for (const { buffer } of coded) {
      // The same answer holds many of them.
      if (this.#lent.delete(buffer) && this.#spare.length < MAX_SPARE) {
        this.#spare.push(Buffer.from(buffer as SharedArrayBuffer));
      }
    }
  }

  /** Memory for an answer: what was given back, if it is large enough. */
  #allocate(lengthBytes: number): Buffer {
    const fitting = this.#spare.findIndex((buffer) => buffer.length >= lengthBytes);
    const [spare] = fitting < 0 ? [] : this.#spare.splice(fitting, 1);
    // Room for a little more, so that the next answers fit as well.
    const memory = spare ?? sharedMemory(Math.ceil(lengthBytes / MIB) * MIB);
    this.#lent.add(memory.buffer);
    return memory.subarray(0, lengthBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The daemon closes the image once nobody asks any more; the client is its opener's.
  }
}

/** Threads decode straight out of what they share. */
function sharedMemory(lengthBytes: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(lengthBytes));
}

/** Makes a call and reads its whole answer. */
async function fetchWhole(client: DaemonClient, clock: Clock, call: ApiCall): Promise<Buffer> {
  return await patiently(clock, async () => readAnswer(await client.call(call)));
}

/**
 * Reads an answer, again when it broke off in between, or later when the daemon said so: it has room
 * for a few slow readers at once.
 */
async function patiently(
  clock: Clock,
  read: () => Promise<Buffer>,
  signal?: AbortSignal,
): Promise<Buffer> {
  const startedAt = clock.monotonic();
  for (let attempt = 0; ; ) {
    try {
      return await read();
    } catch (thrown) {
      let pauseMs: number | undefined;
      if (isFailure(thrown, 'daemon-unreachable')) {
        pauseMs = RETRY_PAUSES_MS[attempt];
        attempt += 1;
      } else if (isFailure(thrown, 'too-many-requests')) {
        const isOver = clock.monotonic() - startedAt > MAX_REFUSED_MS;
        pauseMs = isOver ? undefined : refusedPauseMs(thrown, 1);
      }
      if (pauseMs === undefined) throw thrown;
      await clock.sleep(pauseMs, signal);
    }
  }
}

function decodeAnswer(body: Buffer): Segment[] {
  try {
    return decodeSegments(body);
  } catch (cause) {
    if (!isFailure(cause, 'request-invalid')) throw cause;
    throw new IngotError('daemon-protocol', 'the daemon answered no segments', {}, { cause });
  }
}
