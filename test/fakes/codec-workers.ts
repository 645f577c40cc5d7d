import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { digestOf } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import type { ChunkWorkers, SegmentCodec } from '../../src/keep/index.ts';

/** Chunk workers that have a codec do everything: no threads, for simulated machines. */
export function codecWorkers(codec: SegmentCodec): ChunkWorkers {
  const spanOf = (bytes: Buffer, start: number, length: number): Buffer =>
    bytes.subarray(start, start + length);
  const problemOf = async (segment: Segment): Promise<string | undefined> => {
    const { coded, codedCrc32, plainBytes, plainCrc32, digest } = segment;
    if (coded.length === 0 || crc32(coded) !== codedCrc32) return 'its coded CRC-32 differs';
    const plain = await codec.decode(coded, plainBytes).catch(() => undefined);
    if (plain === undefined) return 'it does not inflate to its plain length';
    if (crc32(plain) !== plainCrc32) return 'its plain CRC-32 differs';
    return digestOf(plain) === digest ? undefined : 'its plain bytes have another digest';
  };
  return {
    lend: async (lengthBytes) => ({
      bytes: Buffer.from(new SharedArrayBuffer(lengthBytes)),
      [Symbol.dispose]: () => undefined,
    }),
    digests: async (bytes, spans) =>
      Buffer.concat(
        spans.map(({ startBytes, lengthBytes }) =>
          hash('sha256', spanOf(bytes, startBytes, lengthBytes), 'buffer'),
        ),
      ),
    encode: async (bytes, chunks) => {
      const segments: Segment[] = [];
      for (const { digest, startBytes, lengthBytes } of chunks) {
        const plain = spanOf(bytes, startBytes, lengthBytes);
        const coded = await codec.encode(plain);
        segments.push({
          digest,
          plainBytes: lengthBytes,
          plainCrc32: crc32(plain),
          codedCrc32: crc32(coded),
          coded,
        });
      }
      return { segments, [Symbol.dispose]: () => undefined };
    },
    check: (segments) => Promise.all(segments.map(problemOf)),
    decode: async (target, segments) => {
      const problems: (string | undefined)[] = [];
      for (const { coded, digest, startBytes, lengthBytes } of segments) {
        const plain = await codec.decode(coded, lengthBytes).catch(() => undefined);
        plain?.copy(target, startBytes);
        const isRight = plain !== undefined && digestOf(plain) === digest;
        const problem =
          plain === undefined ? 'it does not inflate' : 'its plain bytes have another digest';
        problems.push(isRight ? undefined : problem);
      }
      return problems;
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}
