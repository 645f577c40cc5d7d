import { crc32 } from 'node:zlib';
import { IngotError, MIB } from '../../base/index.ts';
import { MAX_CODED_BYTES } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { OpenChunk, OpenEntry, OpenImage } from './open-image.ts';

/** Plain bytes that are read and inflated at once. */
const STEP_BYTES = 2 * MIB;
/** Room for a step that does not compress. */
export const STEP_MEMORY_BYTES: number = STEP_BYTES + 2 * MAX_CODED_BYTES;

/** Some entries, and the plain bytes of the chunks among them. */
export interface PlainStep {
  readonly entries: readonly OpenEntry[];
  readonly plain: readonly Buffer[];
}

/** Splits entries so that the chunks of one step stay small in memory. */
export function* stepsOf(entries: readonly OpenEntry[]): Generator<OpenEntry[], void, undefined> {
  let step: OpenEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    step.push(entry);
    if (entry.kind === 'chunk') bytes += entry.lengthBytes;
    if (bytes >= STEP_BYTES) {
      yield step;
      step = [];
      bytes = 0;
    }
  }
  if (step.length > 0) yield step;
}

/**
 * Reads the chunks of a step and inflates them. The CRC-32 of each is compared, and not its name,
 * which costs a fifth of the whole digest and was compared when it came.
 *
 * @param entries of {@link stepsOf}
 * @param memory of {@link STEP_MEMORY_BYTES}, for coded bytes
 * @throws IngotError `chunk-corrupt`; what the image throws
 */
export async function readPlainStep(
  image: Pick<OpenImage, 'readCoded'>,
  entries: readonly OpenEntry[],
  { codec, memory }: { readonly codec: SegmentCodec; readonly memory: Buffer },
  signal: AbortSignal,
): Promise<PlainStep> {
  const chunks = entries.filter((entry): entry is OpenChunk => entry.kind === 'chunk');
  const coded = await image.readCoded(chunks, signal, memory);
  const plain = await Promise.all(
    chunks.map(async (chunk, i) => {
      const plain = await codec.decode(coded[i] as Buffer, chunk.lengthBytes);
      if (crc32(plain) === chunk.plainCrc32) return plain;
      throw new IngotError('chunk-corrupt', `the chunk ${chunk.digest} inflates to other bytes`, {
        digest: chunk.digest,
      });
    }),
  );
  return { entries, plain };
}
