import { generateKeyPairSync } from 'node:crypto';
import { IngotError } from '../../src/base/index.ts';
import { type ArtifactHeader, readArtifact } from '../../src/bytes/index.ts';
import { readSigningKey } from '../../src/bytes/mender-artifact/signature.ts';
import { inPieces, smallArtifact, smallHeader } from './small-artifact.ts';

/** What a hostile artifact may end with. */
const EXPECTED = new Set([
  'artifact-malformed',
  'artifact-unsupported',
  'compression-malformed',
  'path-refused',
]);

/** One artifact of a few KiB must be judged within this time, on a loaded machine too. */
const MAX_MS = 5000;

/** A generator of numbers that a seed determines (mulberry32). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** @returns a whole number from 0 to `below - 1` */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % Math.max(1, below);
  }

  one<T>(values: readonly [T, ...(readonly T[])]): T {
    return values[this.below(values.length)] ?? values[0];
  }
}

const NUMBERS = [
  '77777777777',
  '00000000000',
  '37777777777',
  '-0000000001',
  '\x80\0\0\0\xff',
] as const;
const NAMES = ['../../x', '/etc/passwd', 'a/../b', 'version', '', 'data/0000.tar', 'x\\y'] as const;
const COMPRESSIONS = ['none', 'none', 'gzip', 'zstd'] as const;
const FLAGS = ['0', '1', '2', '3', '5', '7', 'x', 'g', 'L', 'K', 'S', '\xff'] as const;
const WORDS = ['null', '[]', '{}', '""', '1e999', '{"type":', '\ud800', '__proto__'] as const;

function mended(block: Buffer): void {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

/** Changes a field of the header that a 512-byte block may be, and mends its checksum. */
function changeHeader(bytes: Buffer, random: Random): void {
  const start = random.below(Math.floor(bytes.length / 512)) * 512;
  const block = bytes.subarray(start, start + 512);
  const field = random.below(4);
  if (field === 0) block.fill(0, 0, 100).write(random.one(NAMES), 'latin1');
  else if (field === 1) block.write(random.one(NUMBERS), 124, 11, 'latin1');
  else if (field === 2) block.write(random.one(FLAGS), 156, 'latin1');
  else block[random.below(512)] = random.below(256);
  mended(block);
}

/** Changes bytes in one of the ways in which files break, or are broken. */
function changed(original: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(original);
  const at = random.below(bytes.length);
  const length = 1 + random.below(random.one([1, 16, 512, 2048]));
  switch (random.below(8)) {
    case 0:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
      return bytes;
    case 1:
      return bytes.subarray(0, at);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 3:
      return Buffer.concat([
        bytes.subarray(0, at),
        bytes.subarray(at, at + length),
        bytes.subarray(at),
      ]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at), Buffer.alloc(length), bytes.subarray(at)]);
    case 5:
      bytes.write(random.one(WORDS), at, 'latin1');
      return bytes;
    default:
      changeHeader(bytes, random);
      return bytes;
  }
}

function headers(): ArtifactHeader[] {
  const plain = smallHeader();
  const script = { name: 'ArtifactInstall_Enter_00', mode: 0o755, content: Buffer.from('#!x') };
  const metaData = new Map([['a', [1, new Map([['b', 'c']])]]]);
  return [
    plain,
    { ...plain, version: 2 },
    { ...plain, scripts: [script], payload: { ...plain.payload, metaData } },
    { ...plain, augment: { payloadType: 'rootfs-image', ...plain.payload, metaData } },
  ];
}

/** What a fuzz run found out. */
export interface FuzzReport {
  readonly runs: number;
  /** Changed artifacts that are still right: padding, times and the like. */
  readonly accepted: number;
  readonly refused: number;
  readonly slowestMs: number;
}

/**
 * Reads artifacts that are changed at random: some outside, some inside with their digests mended,
 * so that the inner parsers meet them too.
 *
 * @param seed the same seed changes the same bytes
 * @throws Error with the run's number for anything but an expected failure, a name that was handed
 *   out and leads elsewhere, or a slow run
 */
export async function fuzzArtifacts(options: {
  readonly runs: number;
  readonly seed: number;
  onRun?(run: number): void;
}): Promise<FuzzReport> {
  const pem = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  });
  const key = readSigningKey(pem.toString(), 'the key');
  const bases = headers();
  const report = { runs: options.runs, accepted: 0, refused: 0, slowestMs: 0 };
  for (let run = 0; run < options.runs; run++) {
    options.onRun?.(run);
    const random = new Random(options.seed + run);
    const compression = random.one(COMPRESSIONS);
    const header = bases[random.below(bases.length)] ?? smallHeader();
    const part = random.one(['header', 'data', 'outside', 'outside']);
    const whole = smallArtifact({
      header,
      compression,
      key,
      change: (name, plain) => (name === part ? changed(plain, random) : plain),
    });
    const bytes = part === 'outside' ? changed(whole, random) : whole;
    const started = performance.now();
    try {
      await readArtifact(inPieces(bytes, random.one([512, 1000, 65_536])), {
        onPayloadFile: (file) => {
          if (/[/\\]|^\.\.?$/.test(file.name))
            throw new Error(`the name ${file.name} was handed out`);
          return Promise.resolve();
        },
      });
      report.accepted += 1;
    } catch (thrown) {
      if (!(thrown instanceof IngotError) || !EXPECTED.has(thrown.code)) {
        throw new Error(`run ${run} of seed ${options.seed}`, { cause: thrown });
      }
      report.refused += 1;
    }
    const tookMs = performance.now() - started;
    report.slowestMs = Math.max(report.slowestMs, tookMs);
    if (tookMs > MAX_MS) throw new Error(`run ${run} of seed ${options.seed} took ${tookMs} ms`);
  }
  return report;
}
