import { createHash } from 'node:crypto';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { openIsalSegmentCodec } from './isal-segment-codec.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

/** An engine, and why it was chosen, for `ingot doctor`. */
export interface ChosenCodec {
  readonly codec: SegmentCodec;
  readonly reason: string;
}

let chosen: Promise<ChosenCodec> | undefined;

/**
 * Gives the fastest engine of this machine: ISA-L where it is installed and passes round trips
 * against zlib, else Node's zlib. Asked twice, it answers the same.
 */
export function openFastestCodec(): Promise<ChosenCodec> {
  chosen ??= chooseCodec(openIsalSegmentCodec);
  return chosen;
}

/** Tries an engine out; any doubt leads to zlib. */
export async function chooseCodec(open: () => SegmentCodec): Promise<ChosenCodec> {
  try {
    const codec = open();
    await checkRoundTrips(codec);
    return { codec, reason: 'libisal.so.2 is installed and passed its round trips' };
  } catch (problem) {
    const words = problem instanceof Error ? problem.message : String(problem);
    return { codec: zlibSegmentCodec, reason: `libisal.so.2 is not used: ${words}` };
  }
}

async function checkRoundTrips(codec: SegmentCodec): Promise<void> {
  const zeros = Buffer.alloc(MAX_CHUNK_BYTES);
  if ((await codec.encode(zeros)).byteLength > MAX_CHUNK_BYTES / 64) {
    throw new Error(`${codec.name} does not compress`);
  }
  for (const plain of samples()) {
    const coded = await codec.encode(plain);
    const other = await zlibSegmentCodec.encode(plain);
    const decoded = [
      await zlibSegmentCodec.decode(coded, plain.byteLength),
      await codec.decode(coded, plain.byteLength),
      await codec.decode(other, plain.byteLength),
    ];
    for (const bytes of decoded) {
      if (!bytes.equals(plain)) throw new Error(`${codec.name} does not give back what it coded`);
    }
    const twice = Buffer.alloc(2 * plain.byteLength);
    await codec.decodeRun(Buffer.concat([coded, other]), twice);
    if (!twice.equals(Buffer.concat([plain, plain]))) {
      throw new Error(`${codec.name} does not give back a run of segments`);
    }
  }
}

/** Text, bytes that do not compress, a mixture, and a few bytes only. */
function* samples(): Generator<Buffer, void, undefined> {
  const noise = Buffer.alloc(MAX_CHUNK_BYTES);
  for (let at = 0; at < noise.byteLength; at += 32) {
    createHash('sha256').update(String(at)).digest().copy(noise, at);
  }
  yield Buffer.from(noise.subarray(0, 8192).toString('hex').repeat(4));
  yield noise;
  yield Buffer.concat([noise.subarray(0, 4097), Buffer.alloc(100_000)]);
  yield Buffer.from('x');
}
