import { IngotError } from '../../base/index.ts';

/** Remembers what the source threw: the native decoder hands on only its text. */
async function* watched(
  source: AsyncIterable<Uint8Array>,
  state: { failure?: unknown },
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const piece of source) if (piece.byteLength > 0) yield piece;
  } catch (thrown) {
    state.failure = thrown;
    throw thrown;
  }
}

/**
 * Decompresses an .xz stream, or several one after another.
 *
 * Holds the decoder's dictionary (64 MiB for what Mender writes) and a few pieces of 64 KiB.
 *
 * @throws IngotError `compression-malformed`; failures of `source` as they are
 */
export async function* unxz(
  source: AsyncIterable<Uint8Array>,
  place: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  // The native decoder is loaded only when an .xz is met: most runs never need it. Its stream is
  // used and not its class, which decodes ahead without a limit.
  const { decompressStream } = await import('@napi-rs/lzma/xz');
  const state: { failure?: unknown } = {};
  const input = ReadableStream.from(watched(source, state));
  try {
    yield* decompressStream(input as ReadableStream<Uint8Array<ArrayBuffer>>);
  } catch (cause) {
    if (state.failure !== undefined) throw state.failure;
    throw new IngotError(
      'compression-malformed',
      `${place} is damaged or ends too early`,
      { place },
      { cause },
    );
  }
}
