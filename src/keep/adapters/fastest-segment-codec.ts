import { createHash } from 'node:crypto';
import { IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { openIsalSegmentCodec } from './isal-segment-codec.ts';
import { openWasmSegmentCodecHere, wasmSegmentCodec } from './wasm-segment-codec.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

/** An engine, and why it was chosen, for `ingot doctor`. */
export interface ChosenCodec {
  readonly codec: SegmentCodec;
  readonly reason: string;
}

/** Engines that may not work on a machine, the faster first. */
const TRIED = ['isal', 'wasm'] as const;

/** What can be asked for; `auto` takes the fastest that works. */
export const ENGINE_CHOICES = ['auto', ...TRIED, 'zlib'] as const;
export type EngineChoice = (typeof ENGINE_CHOICES)[number];

/** An engine that must show that it works. */
export interface EngineCandidate {
  /** What it needs, in words. */
  readonly means: string;
  readonly open: () => SegmentCodec;
  /** What is tried, where the codec itself takes long to start. */
  readonly openTrial?: () => SegmentCodec;
}

const CANDIDATES: Readonly<Record<(typeof TRIED)[number], EngineCandidate>> = {
  isal: { means: 'libisal.so.2', open: openIsalSegmentCodec },
  wasm: {
    means: 'WebAssembly',
    open: () => wasmSegmentCodec,
    openTrial: openWasmSegmentCodecHere,
  },
};

/** What became of a trial: no codec if it failed. */
export interface EngineTrial {
  readonly codec: SegmentCodec | undefined;
  readonly reason: string;
}

const trials = new Map<(typeof TRIED)[number], Promise<EngineTrial>>();

/**
 * Gives the fastest engine of this machine: ISA-L where it is installed, else our own in WebAssembly,
 * each only if it passes round trips against Node's zlib, else that. `INGOT_ENGINE` chooses another.
 * Asked twice, it answers the same.
 *
 * @throws IngotError as {@link openCodec}; `settings-invalid` for an engine that is none
 */
export async function openFastestCodec(): Promise<ChosenCodec> {
  const wanted = process.env['INGOT_ENGINE'] ?? 'auto';
  const choice = ENGINE_CHOICES.find((name) => name === wanted);
  if (choice === undefined) {
    throw new IngotError(
      'settings-invalid',
      `INGOT_ENGINE is auto, isal, wasm or zlib, not ${wanted}`,
    );
  }
  return await openCodec(choice);
}

/**
 * Gives the engine that is wanted.
 *
 * @throws IngotError `tool-missing` when one is wanted that does not work here
 */
export async function openCodec(choice: EngineChoice): Promise<ChosenCodec> {
  if (choice === 'zlib') return { codec: zlibSegmentCodec, reason: 'zlib was asked for' };
  if (choice === 'auto') return await firstOf(TRIED.map((name) => () => trialOnce(name)));
  const { codec, reason } = await trialOnce(choice);
  if (codec === undefined) {
    throw new IngotError('tool-missing', `the engine ${choice} was asked for, but ${reason}`);
  }
  return { codec, reason };
}

function trialOnce(name: (typeof TRIED)[number]): Promise<EngineTrial> {
  const trial = trials.get(name) ?? tryEngine(CANDIDATES[name]);
  trials.set(name, trial);
  return trial;
}

/** Gives the first engine that passed its trial, else zlib. */
export async function firstOf(
  attempts: readonly (() => Promise<EngineTrial>)[],
): Promise<ChosenCodec> {
  const reasons: string[] = [];
  for (const attempt of attempts) {
    const { codec, reason } = await attempt();
    reasons.push(reason);
    if (codec !== undefined) return { codec, reason: reasons.join('; ') };
  }
  return { codec: zlibSegmentCodec, reason: reasons.join('; ') };
}

/** Tries an engine out; with any doubt it is not used. */
export async function tryEngine({ means, open, openTrial }: EngineCandidate): Promise<EngineTrial> {
  try {
    await checkRoundTrips((openTrial ?? open)());
    return { codec: open(), reason: `${means} works and passed its round trips` };
  } catch (problem) {
    const words = problem instanceof Error ? problem.message : String(problem);
    return { codec: undefined, reason: `${means} is not used: ${words}` };
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
