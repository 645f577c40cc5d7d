import { createHash } from 'node:crypto';
import { IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { openIsalSegmentCodec } from './isal-segment-codec.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

/** An engine, and why it was chosen, for `ingot doctor`. */
export interface ChosenCodec {
  readonly codec: SegmentCodec;
  readonly reason: string;
}

/** Which engine is wanted; `auto` takes the fastest that works. */
export type EngineChoice = 'auto' | 'isal' | 'zlib';

let fastest: Promise<ChosenCodec> | undefined;

/**
 * Gives the fastest engine of this machine: ISA-L where it is installed and passes round trips
 * against zlib, else Node's zlib. `INGOT_ENGINE` chooses another. Asked twice, it answers the same.
 *
 * @throws IngotError as {@link openCodec}; `settings-invalid` for an engine that is none
 */
export async function openFastestCodec(): Promise<ChosenCodec> {
  const choice = process.env['INGOT_ENGINE'] ?? 'auto';
  if (choice !== 'auto' && choice !== 'isal' && choice !== 'zlib') {
    throw new IngotError('settings-invalid', `INGOT_ENGINE is auto, isal or zlib, not ${choice}`);
  }
  return await openCodec(choice);
}

/**
 * Gives the engine that is wanted.
 *
 * @throws IngotError `tool-missing` when ISA-L is wanted and does not work here
 */
export async function openCodec(choice: EngineChoice): Promise<ChosenCodec> {
  if (choice === 'zlib') return { codec: zlibSegmentCodec, reason: 'zlib was asked for' };
  fastest ??= chooseCodec(openIsalSegmentCodec);
  const { codec, reason } = await fastest;
  if (choice === 'isal' && codec.name === zlibSegmentCodec.name) {
    throw new IngotError('tool-missing', `the engine isal was asked for, but ${reason}`);
  }
  return { codec, reason };
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
  }
}

/** Text, bytes that do not compress, a mixture, and a few bytes only. */
function* samples(): Generator<Buffer, void, undefined> {
  // A stream of one hash: a hash for each 32 bytes took a fifth of a small command's time.
  const noise = createHash('shake128', { outputLength: MAX_CHUNK_BYTES }).digest();
  yield Buffer.from(noise.subarray(0, 8192).toString('hex').repeat(4));
  yield noise;
  yield Buffer.concat([noise.subarray(0, 4097), Buffer.alloc(100_000)]);
  yield Buffer.from('x');
}
