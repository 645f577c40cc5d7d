import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchDaemon, INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { compare, table } from './measure.ts';
import { run } from './workloads.ts';

interface Stats {
  /** Coded bytes of the chunks that images need. */
  readonly live_bytes: number;
}

function storedMb(daemon: BenchDaemon): number {
  const stats: Stats = JSON.parse(daemon.ingot('library', 'stats', '--json'));
  return stats.live_bytes / 1e6;
}

function sizeMb(path: string): number {
  return Number(run('du', '-s', '-B1', '--apparent-size', path).split('\t')[0]) / 1e6;
}

/** Each round imports into a library that is empty again: a known image would cost nothing. */
async function timeImport(context: BenchContext, label: string, image: string): Promise<string> {
  const { scratch } = context;
  const restic = join(scratch, 'restic');
  const borg = join(scratch, 'borg');
  const resticEnv = { RESTIC_PASSWORD: 'bench' };
  const borgEnv = { BORG_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' };
  await using daemon = await startBenchDaemon(context.env);
  const standings = compare(
    [
      {
        name: `ingot images import (${label})`,
        prepare: () => {
          const old: { id: string }[] = JSON.parse(daemon.ingot('images', 'list', '--json'));
          for (const { id } of old) daemon.ingot('images', 'destroy', id, '--yes');
          daemon.ingot('library', 'gc', '--quiet', '--force');
        },
        command: `${INGOT} images import --quiet --free-space zero --name bench ${image}`,
        env: daemon.env,
      },
      {
        name: 'mender-artifact write',
        command: `mender-artifact write rootfs-image -f ${image} -n r -t d --no-progress -o ${scratch}/peer.mender`,
      },
      { name: 'pigz -6', command: `pigz -6 -c ${image} > ${scratch}/peer.gz` },
      {
        name: 'restic backup',
        prepare: () => {
          rmSync(restic, { recursive: true, force: true });
          run('env', 'RESTIC_PASSWORD=bench', 'restic', 'init', '-q', '-r', restic);
        },
        command: `restic -q -r ${restic} backup ${image}`,
        env: resticEnv,
      },
      {
        name: 'borg create (zstd-3, fixed chunks, sparse)',
        prepare: () => {
          rmSync(borg, { recursive: true, force: true });
          run('borg', 'init', '-e', 'none', borg);
        },
        command: `borg create --sparse --chunker-params=fixed,4194304 -C zstd,3 ${borg}::one ${image}`,
        env: borgEnv,
      },
    ],
    context.rounds,
  );
  const lines = [
    table(`${label} image file into the library`, standings),
    `Stored by ingot ${storedMb(daemon).toFixed(1)} MB; mender-artifact ${sizeMb(`${scratch}/peer.mender`).toFixed(1)} MB; pigz ${sizeMb(`${scratch}/peer.gz`).toFixed(1)} MB; restic ${sizeMb(restic).toFixed(1)} MB; borg ${sizeMb(borg).toFixed(1)} MB. Daemon's peak ${daemon.peakMemoryMb().toFixed(0)} MB.`,
    '',
  ];
  for (const name of ['peer.mender', 'peer.gz']) rmSync(join(scratch, name), { force: true });
  return lines.join('\n');
}

/** What a second and third image add to a library that holds the first. */
async function addedBytes(context: BenchContext): Promise<string> {
  const restic = join(context.scratch, 'restic');
  rmSync(restic, { recursive: true, force: true });
  const env = ['env', 'RESTIC_PASSWORD=bench', 'restic', '-q', '-r', restic];
  run(env[0] ?? '', ...env.slice(1), 'init');
  await using daemon = await startBenchDaemon(context.env);
  const lines = [
    '### Bytes added',
    '',
    '| | ingot MB | ingot s | restic MB |',
    '|---|---|---|---|',
  ];
  let ours = 0;
  let theirs = 0;
  for (const [label, image] of [
    ['W1, first', context.w1],
    ['W3 after W1 (upgraded in place)', context.w3],
    ['W5 after W3 (laid out anew)', context.w5],
  ] as const) {
    const began = performance.now();
    daemon.ingot('images', 'import', '--quiet', '--free-space', 'zero', '--name', label, image);
    const seconds = (performance.now() - began) / 1000;
    run(env[0] ?? '', ...env.slice(1), 'backup', image);
    const nowOurs = storedMb(daemon);
    const nowTheirs = sizeMb(restic);
    lines.push(
      `| ${label} | ${(nowOurs - ours).toFixed(1)} | ${seconds.toFixed(2)} | ${(nowTheirs - theirs).toFixed(1)} |`,
    );
    ours = nowOurs;
    theirs = nowTheirs;
  }
  return `${lines.join('\n')}\n`;
}

/** Import of W1 and W2 against the peers, and what W3 and W5 add. */
export async function importFigures(context: BenchContext): Promise<string> {
  return [
    await timeImport(context, 'W1', context.w1),
    await timeImport(context, 'W2', context.w2),
    await addedBytes(context),
  ].join('\n');
}
