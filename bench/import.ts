import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { sizeMb, storedMb } from './added.ts';
import { INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { type Contestant, compare, table } from './measure.ts';
import { readyImage } from './ready.ts';
import { run } from './workloads.ts';

/** Each round imports into a library that is empty again: a known image would cost nothing. */
async function timeImport(context: BenchContext, label: string, image: string): Promise<string> {
  const { scratch } = context;
  const restic = join(scratch, 'restic');
  const borg = join(scratch, 'borg');
  const resticEnv = { RESTIC_PASSWORD: 'bench' };
  const borgEnv = { BORG_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' };
  await using daemon = await startBenchDaemon(context.env);
  const contestants: Contestant[] = [
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
  ];
  const standings = compare(
    contestants.map((one) => ({
      ...one,
      prepare: () => {
        one.prepare?.();
        readyImage(image);
      },
    })),
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

/** Import of W1 and W2 against the peers. */
export async function importFigures(context: BenchContext): Promise<string> {
  return [
    await timeImport(context, 'W1', context.w1),
    await timeImport(context, 'W2', context.w2),
  ].join('\n');
}
