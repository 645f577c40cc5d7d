import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { compare, median, type Standing, table, timeOnce } from './measure.ts';
import { makeW4, withMounted } from './workloads.ts';

/**
 * `mender snapshot dump` wants its data directory on another filesystem than the source, and a
 * device node below /dev/block, which udev makes on ordinary machines.
 */
export function menderDump(context: BenchContext, mountPoint: string, flags: string): string {
  const data = join(context.scratch, 'mender-data');
  mkdirSync(data, { recursive: true });
  return `mender --data ${data} snapshot dump --quiet --source ${mountPoint} ${flags}`;
}

/** Makes the device node by number that Mender's client looks for. */
export function linkDevice(mountPoint: string): void {
  const device = spawnSync('findmnt', ['-no', 'MAJ:MIN,SOURCE', mountPoint], { encoding: 'utf8' });
  const [number = '', source = ''] = device.stdout.trim().split(/\s+/);
  mkdirSync('/dev/block', { recursive: true });
  spawnSync('ln', ['-sf', source, `/dev/block/${number}`]);
}

interface ImageFacts {
  readonly freeze_ms: number;
}

/** How long a dump was frozen, of what it said with `--json`. */
function frozenSeconds(path: string): number {
  const last = readFileSync(path, 'utf8').trim().split('\n').at(-1) ?? '{}';
  const report: { capture?: { freezeMs?: number } } = JSON.parse(last);
  return (report.capture?.freezeMs ?? Number.NaN) / 1000;
}

/** How long W1, mounted and written to, is frozen on its way into the library. */
export async function freezeFigures(context: BenchContext): Promise<string> {
  await using daemon = await startBenchDaemon(context.env);
  const copy = join(context.scratch, 'mounted.img');
  spawnSync('cp', ['--sparse=always', context.w1, copy]);
  const freezes: number[] = [];
  const toFile: number[] = [];
  const dumped = join(context.scratch, 'dumped.img');
  const said = join(context.scratch, 'dumped.json');
  const theirs = { gzip: [] as number[], plain: [] as number[] };
  withMounted(copy, (mountPoint) => {
    linkDevice(mountPoint);
    for (let round = 0; round < context.rounds; round++) {
      // A writer changes 5 MB/s, as on a machine that works.
      const writer = `i=0; while sleep 0.2; do i=$(( (i+1) % 40 )); head -c 1000000 /dev/urandom > ${mountPoint}/written-$i; done & w=$!; trap "kill $w" EXIT; `;
      timeOnce(
        `${writer} ${INGOT} images import --quiet --source ${mountPoint} --name frozen-${round}`,
        daemon.env,
      );
      const images: (ImageFacts & { name: string })[] = JSON.parse(
        daemon.ingot('images', 'list', '--json'),
      );
      const image = images.find(({ name }) => name === `frozen-${round}`);
      freezes.push((image?.freeze_ms ?? Number.NaN) / 1000);
      timeOnce(
        `${writer} ${INGOT} snapshot dump --quiet --json --source ${mountPoint} -o ${dumped} 2> ${said}`,
      );
      toFile.push(frozenSeconds(said));
      rmSync(dumped);
      theirs.gzip.push(
        timeOnce(`${menderDump(context, mountPoint, '-C gzip')} | cat > /dev/null`).wallSeconds,
      );
      theirs.plain.push(
        timeOnce(`${menderDump(context, mountPoint, '')} | cat > /dev/null`).wallSeconds,
      );
    }
  });
  rmSync(copy);
  const ours = median(freezes);
  const gzip = median(theirs.gzip);
  const plain = median(theirs.plain);
  return [
    '### Freeze of W1, mounted, a writer at 5 MB/s',
    '',
    '| | frozen s | against ingot |',
    '|---|---|---|',
    `| ingot images import --source (pre-copy) | ${ours.toFixed(2)} | 1 |`,
    `| ingot snapshot dump to a file (pre-copy) | ${median(toFile).toFixed(2)} | ${(median(toFile) / ours).toFixed(1)} |`,
    `| mender snapshot dump -C gzip to a pipe | ${gzip.toFixed(2)} | ${(gzip / ours).toFixed(1)} |`,
    `| mender snapshot dump to a pipe | ${plain.toFixed(2)} | ${(plain / ours).toFixed(1)} |`,
    '',
    'mender freezes for its whole run, so its wall time is taken.',
    '',
  ].join('\n');
}

/** W1 and W4, mounted, as gzip on a pipe. */
export async function dumpFigures(context: BenchContext): Promise<string> {
  const parts: string[] = [];
  for (const filesystem of ['ext4', 'xfs', 'btrfs'] as const) {
    const copy = join(context.scratch, `mounted-${filesystem}.img`);
    if (filesystem === 'ext4') spawnSync('cp', ['--sparse=always', context.w1, copy]);
    else makeW4(copy, context.w1, filesystem, context.scale);
    parts.push(
      table(`The tree of W1 on ${filesystem}, mounted, as gzip on a pipe`, dumps(context, copy)),
    );
    rmSync(copy);
  }
  return parts.join('\n');
}

function dumps(context: BenchContext, image: string): Standing[] {
  return withMounted(image, (mountPoint) => {
    linkDevice(mountPoint);
    const peer = {
      name: 'mender snapshot dump -C gzip',
      command: `${menderDump(context, mountPoint, '-C gzip')} | cat > /dev/null`,
    };
    const ours = {
      name: 'ingot snapshot dump -C gzip',
      command: `${INGOT} snapshot dump --quiet --source ${mountPoint} -C gzip | cat > /dev/null`,
      env: context.env,
    };
    // mender refuses btrfs: its device number is none that a block device has.
    const isBtrfs =
      spawnSync('stat', ['-fc', '%T', mountPoint], { encoding: 'utf8' }).stdout.trim() === 'btrfs';
    return compare(isBtrfs ? [ours] : [ours, peer], context.rounds);
  });
}
