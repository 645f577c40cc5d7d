/** What a second and third image add to a library that holds the first, for Ingot and its peers. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchDaemon, startBenchDaemon } from './daemon.ts';
import { FixedChunks } from './fixed-chunks.ts';
import type { BenchContext } from './main.ts';
import { readyImage } from './ready.ts';
import { run } from './workloads.ts';

interface Stats {
  /** Coded bytes of the chunks that images need. */
  readonly live_bytes: number;
}

/** @returns what a library keeps, in MB */
export function storedMb(daemon: BenchDaemon): number {
  const stats: Stats = JSON.parse(daemon.ingot('library', 'stats', '--json'));
  return stats.live_bytes / 1e6;
}

/** @returns what a file or folder has, in MB */
export function sizeMb(path: string): number {
  return Number(run('du', '-s', '-B1', '--apparent-size', path).split('\t')[0]) / 1e6;
}

/** A store that images are added to, one after the other. */
interface Store {
  readonly name: string;
  /** Adds an image. @returns MB that the store has grown by */
  readonly add: (image: string, label: string) => number | Promise<number>;
}

/** What the project set itself: at most this part of a peer's bytes, of W3 and of W5. */
const FLOORS: Readonly<Record<string, { readonly w3?: number; readonly w5?: number }>> = {
  casync: { w3: 0.42 },
  restic: { w3: 0.33 },
  borg: { w3: 0.25 },
  'fixed 128 KiB': { w5: 0.2 },
};

/** A store in a folder, filled by a command. */
function folderStore(
  name: string,
  path: string,
  {
    init,
    add,
  }: { readonly init?: () => void; readonly add: (image: string, label: string) => void },
): Store {
  rmSync(path, { recursive: true, force: true });
  init?.();
  let before = init === undefined ? 0 : sizeMb(path);
  return {
    name,
    add: (image, label) => {
      add(image, label);
      const now = sizeMb(path);
      const grown = now - before;
      before = now;
      return grown;
    },
  };
}

function peers(scratch: string): Store[] {
  const [restic, casync] = ['restic', 'casync'].map((name) => join(scratch, name));
  const resticRun = (...argv: string[]): string =>
    run('env', 'RESTIC_PASSWORD=bench', 'restic', '-q', '-r', restic ?? '', ...argv);
  const borgRun = (...argv: string[]): string =>
    run('env', 'BORG_UNENCRYPTED_REPO_ACCESS_IS_OK=yes', 'borg', ...argv);
  const fixed = new FixedChunks();
  return [
    folderStore('casync', casync ?? '', {
      add: (image, label) => {
        run('casync', 'make', `--store=${casync}`, join(scratch, `${label}.caibx`), image);
        rmSync(join(scratch, `${label}.caibx`));
      },
    }),
    folderStore('restic', restic ?? '', {
      init: () => resticRun('init'),
      add: (image) => resticRun('backup', image),
    }),
    ...[['borg', 'lz4'] as const, ['borg, zstd-3', 'zstd,3'] as const].map(
      ([name, compression]) => {
        const path = join(scratch, name.replace(/\W+/, '-'));
        return folderStore(name, path, {
          init: () => borgRun('init', '-e', 'none', path),
          add: (image, label) => borgRun('create', '-C', compression, `${path}::${label}`, image),
        });
      },
    ),
    { name: 'fixed 128 KiB', add: async (image) => (await fixed.add(image)) / 1e6 },
  ];
}

/** Adds W1, W3 and W5 to every store, in turn. */
export async function addedBytes(context: BenchContext): Promise<string> {
  await using daemon = await startBenchDaemon(context.env);
  let seconds: number[] = [];
  let before = 0;
  const ingot: Store = {
    name: 'ingot',
    add: (image, label) => {
      readyImage(image);
      const began = performance.now();
      daemon.ingot('images', 'import', '--quiet', '--free-space', 'zero', '--name', label, image);
      seconds = [...seconds, (performance.now() - began) / 1000];
      const now = storedMb(daemon);
      const grown = now - before;
      before = now;
      return grown;
    },
  };
  const rows: { readonly name: string; readonly mb: readonly number[] }[] = [];
  for (const store of [ingot, ...peers(context.scratch)]) {
    const mb: number[] = [];
    for (const [label, image] of Object.entries({
      w1: context.w1,
      w3: context.w3,
      w5: context.w5,
    })) {
      mb.push(await store.add(image, label));
    }
    rows.push({ name: store.name, mb });
  }
  const [w1Seconds = Number.NaN, w3Seconds = Number.NaN] = seconds;
  const times = seconds.map((one) => one.toFixed(1)).join(', ');
  return [
    '### Bytes added, in MB',
    '',
    '| | W1, first | W3 after W1 | ingot of it | floor | W5 after W3 | ingot of it | floor |',
    '|---|---|---|---|---|---|---|---|',
    ...rows.map((row) => rowText(row, rows[0]?.mb ?? [])),
    '',
    `Ingot took ${times} s; W3 ${(w3Seconds / w1Seconds).toFixed(2)} of W1's own (floor 0.33).`,
    '',
  ].join('\n');
}

function rowText(
  { name, mb }: { readonly name: string; readonly mb: readonly number[] },
  ours: readonly number[],
): string {
  const [w1, w3, w5] = mb.map((one) => one.toFixed(1));
  const share = (i: number): string => ((ours[i] ?? Number.NaN) / (mb[i] ?? 0)).toFixed(2);
  const floor = FLOORS[name] ?? {};
  const cells = [name, w1, w3, share(1), floor.w3 ?? '', w5, share(2), floor.w5 ?? ''];
  return `| ${cells.join(' | ')} |`;
}
