/**
 * Takes the figures of docs/performance.md: Ingot and its peers side by side, on the same files, in
 * turn. Ratios hold where single times do not.
 *
 *   npm run bench -- [--quick] [--rounds N] [--wasm | --zlib] [import|added|artifact|download|freeze|dump|restore|pull …]
 *
 * Needs root (it mounts what it makes) and the peers: mender-client, mender-artifact, pigz, restic,
 * borgbackup, casync, nginx-light, time.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { addedBytes } from './added.ts';
import { artifactFigures } from './artifact.ts';
import { downloadFigures } from './download.ts';
import { dumpFigures, freezeFigures } from './freeze.ts';
import { importFigures } from './import.ts';
import { pullFigures } from './pull.ts';
import { restoreFigures } from './restore.ts';
import { FULL, makeW1, makeW2, makeW3, makeW5, QUICK, type Scale } from './workloads.ts';

/** What every bench is given. */
export interface BenchContext {
  readonly scale: Scale;
  readonly rounds: number;
  /** Where the workloads lie. */
  readonly w1: string;
  readonly w2: string;
  readonly w3: string;
  readonly w5: string;
  /** A folder for outputs, on the same disk. */
  readonly scratch: string;
  /** Environment that chooses the segment engine. */
  readonly env: Readonly<Record<string, string>>;
}

const FIGURES = {
  import: importFigures,
  added: addedBytes,
  artifact: artifactFigures,
  download: downloadFigures,
  freeze: freezeFigures,
  dump: dumpFigures,
  restore: restoreFigures,
  pull: pullFigures,
} as const;

function once(path: string, make: () => void): void {
  if (existsSync(path)) return;
  process.stderr.write(`making ${path}\n`);
  make();
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    wasm: { type: 'boolean', default: false },
    zlib: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    keep: { type: 'string', default: join(tmpdir(), 'ingot-bench') },
  },
});
const engine = values.wasm ? 'wasm' : values.zlib ? 'zlib' : undefined;
const scale = values.quick ? QUICK : FULL;
// Another number where workloads became others, so that old ones are not taken for them.
const folder = join(values.keep, `${scale.name}-3`);
mkdirSync(join(folder, 'scratch'), { recursive: true });
const context: BenchContext = {
  scale,
  rounds: Number(values.rounds),
  w1: join(folder, 'w1.img'),
  w2: join(folder, 'w2.img'),
  w3: join(folder, 'w3.img'),
  w5: join(folder, 'w5.img'),
  scratch: join(folder, 'scratch'),
  env: engine === undefined ? {} : { INGOT_ENGINE: engine },
};
once(context.w1, () => makeW1(context.w1, scale));
once(context.w2, () => makeW2(context.w2, scale));
once(context.w3, () => makeW3(context.w3, context.w1, scale));
once(context.w5, () => makeW5(context.w5, context.w3, scale.diskBytes));

const memoryGb = (totalmem() / 1024 ** 3).toFixed(0);
process.stdout.write(
  `${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}, ${memoryGb} GiB; scale ${scale.name}; ${engine ?? 'fastest engine'}; median of ${context.rounds}\n\n`,
);
const names = positionals.length > 0 ? positionals : Object.keys(FIGURES);
for (const name of names) {
  if (!(name in FIGURES)) throw new Error(`no bench is called ${name}`);
  const report = await FIGURES[name as keyof typeof FIGURES](context);
  process.stdout.write(`${report}\n`);
}
