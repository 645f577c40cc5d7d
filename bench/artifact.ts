import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchDaemon, INGOT, startBenchDaemon } from './daemon.ts';
import { linkDevice, menderDump } from './freeze.ts';
import type { BenchContext } from './main.ts';
import { compare, median, table, timeOnce } from './measure.ts';
import { readyImage } from './ready.ts';
import { withMounted } from './workloads.ts';

const ROUTE = 'artifact?name=r&device_type=d';

/** A Mender Artifact from a library image, a file and a mounted disk, against mender-artifact. */
export async function artifactFigures(context: BenchContext): Promise<string> {
  const parts: string[] = [];
  for (const [label, image] of [
    ['W1', context.w1],
    ['W2', context.w2],
  ] as const) {
    parts.push(await timeImage(context, label, image));
  }
  parts.push(timeMounted(context));
  return parts.join('\n');
}

/** Imports an image into a daemon of its own. @returns its id */
function imported(daemon: BenchDaemon, label: string, image: string): string {
  daemon.ingot('images', 'import', '--quiet', '--free-space', 'zero', '--name', label, image);
  const images: { id: string; name: string }[] = JSON.parse(
    daemon.ingot('images', 'list', '--json'),
  );
  return images.find(({ name }) => name === label)?.id ?? '';
}

async function timeImage(context: BenchContext, label: string, image: string): Promise<string> {
  const { scratch, rounds } = context;
  const ours = join(scratch, 'ours.mender');
  const theirs = join(scratch, 'peer.mender');
  const key = join(scratch, 'bench-key.pem');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  writeFileSync(key, privateKey.export({ type: 'sec1', format: 'pem' }));
  await using daemon = await startBenchDaemon(context.env);
  const idleMb = daemon.peakMemoryMb();
  const id = imported(daemon, label, image);
  const importedMb = daemon.peakMemoryMb();
  const words = `${INGOT} artifact write rootfs-image -n r -c d --no-progress`;
  const write = `${words} -o ${ours}`;
  // The daemon works on the digest of a small disk by itself: this one comes before or meanwhile.
  const first = timeOnce(`${write} -f ${id}`, daemon.env);
  const token = await daemon.token();
  const env = { ...daemon.env, INGOT_BENCH_TOKEN: token };
  const url = `${daemon.url}/api/ingot/v1/images/${id}/${ROUTE}`;
  const curl = `curl -sf -H "Authorization: Bearer $INGOT_BENCH_TOKEN" '${url}'`;
  const cpuBefore = daemon.cpuSeconds();
  // The last before the peer's is the one from a file.
  let fromFileMb = '';
  const prepare = (): void => {
    if (existsSync(ours)) fromFileMb = megabytes(ours);
    for (const path of [ours, theirs]) rmSync(path, { force: true });
    spawnSync('sync');
  };
  const prepareImage = (): void => {
    prepare();
    readyImage(image);
  };
  const fromLibrary = [
    { name: 'ingot, from the library', command: `${write} -f ${id}`, env },
    { name: 'the same, not onto a disk', command: `${words} -f ${id} -o - >/dev/null`, env },
    { name: 'the same, signed', command: `${write} -f ${id} -k ${key}`, env },
    { name: 'the daemon alone, by curl', command: `${curl} -o ${ours}`, env },
  ];
  const fromFile = [
    { name: 'ingot, from a file', command: `${write} -f ${image}`, env },
    {
      name: 'mender-artifact write',
      command: `mender-artifact write rootfs-image -f ${image} -n r -t d --no-progress -o ${theirs}`,
    },
  ];
  const standings = compare(
    [
      ...fromLibrary.map((one) => ({ ...one, prepare })),
      ...fromFile.map((one) => ({ ...one, prepare: prepareImage })),
    ],
    rounds,
  );
  const daemonCpu = (daemon.cpuSeconds() - cpuBefore) / (4 * rounds);
  const firstBytes = Array.from({ length: 5 }, () => firstByteMs(curl, env));
  const sizes = `Artifacts: ingot ${fromFileMb} MB (from a file), mender-artifact ${megabytes(theirs)} MB; what was written beyond that is temporary.`;
  for (const path of [ours, theirs, key]) rmSync(path, { force: true });
  return [
    table(`Mender Artifact of ${label}`, standings),
    `The first from the library: ${first.wallSeconds.toFixed(2)} s. First byte of the daemon's own after ${median(firstBytes).toFixed(0)} ms.`,
    `Daemon: ${daemonCpu.toFixed(2)} s of CPU for one; peak ${daemon.peakMemoryMb().toFixed(0)} MB, ${importedMb.toFixed(0)} MB after the import, ${idleMb.toFixed(0)} MB before it.`,
    sizes,
    '',
  ].join('\n');
}

function megabytes(path: string): string {
  return (statSync(path).size / 1e6).toFixed(0);
}

function firstByteMs(curl: string, env: Readonly<Record<string, string>>): number {
  const done = spawnSync('bash', ['-c', `${curl} -o /dev/null -w '%{time_starttransfer}'`], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return Number(done.stdout) * 1000;
}

/** W1, mounted, to an artifact: by one command, and by Mender's two with a file between them. */
function timeMounted(context: BenchContext): string {
  const { scratch } = context;
  const copy = join(scratch, 'mounted.img');
  const dumped = join(scratch, 'dumped.img');
  spawnSync('cp', ['--sparse=always', context.w1, copy]);
  let report = '';
  withMounted(copy, (mountPoint) => {
    linkDevice(mountPoint);
    report = table(
      'W1, mounted, to a Mender Artifact',
      compare(
        [
          {
            name: 'ingot artifact write -f MOUNTPOINT',
            command: `${INGOT} artifact write rootfs-image -n r -c d --no-progress -f ${mountPoint} -o ${scratch}/ours.mender`,
            env: context.env,
          },
          {
            name: 'mender snapshot dump, then mender-artifact write',
            command: `${menderDump(context, mountPoint, '')} > ${dumped} && mender-artifact write rootfs-image -f ${dumped} -n r -t d --no-progress -o ${scratch}/peer.mender`,
          },
        ],
        context.rounds,
      ),
    );
  });
  for (const path of [copy, dumped, `${scratch}/ours.mender`, `${scratch}/peer.mender`]) {
    rmSync(path, { force: true });
  }
  return report;
}
