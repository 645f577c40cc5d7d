import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Sshd, startSshd } from '../test/support/sshd.ts';
import { type BenchDaemon, INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { type Contestant, compare, median, table, timeOnce } from './measure.ts';
import { makeW4, run, withMounted } from './workloads.ts';

const TRACING = '/sys/kernel/tracing';

/** An sshd, and how it is reached. */
interface BenchSshd extends Pick<Sshd, 'programs'> {
  readonly url: string;
  /** For `ssh -F`. */
  readonly config: string;
}

/** Writes what ssh needs to reach an sshd. */
function reach({ folder, identity, port, programs }: Sshd): BenchSshd {
  const config = join(folder, 'ssh_config');
  writeFileSync(
    config,
    `Host 127.0.0.1
  Port ${port}
  IdentityFile ${identity}
  IdentitiesOnly yes
  UserKnownHostsFile ${folder}/known
  StrictHostKeyChecking accept-new
  BatchMode yes
`,
  );
  return { programs, config, url: `ssh://root@127.0.0.1:${port}` };
}

/** Mounts tracefs, as every system with systemd has it. @returns undoes that */
function mountTracing(): Disposable {
  const isMounted = spawnSync('mountpoint', ['-q', TRACING]).status === 0;
  if (!isMounted) run('mount', '-t', 'tracefs', 'nodev', TRACING);
  return { [Symbol.dispose]: () => (isMounted ? undefined : run('umount', TRACING)) };
}

/**
 * Makes the name that mender-artifact calls on the device dump the workload: it can only ask for
 * the root filesystem.
 */
function offerMender(context: BenchContext, sshd: BenchSshd, mountPoint: string): void {
  const data = join(context.scratch, 'mender-data');
  mkdirSync(data, { recursive: true });
  const path = join(sshd.programs, 'mender');
  writeFileSync(
    path,
    `#!/bin/sh\nexec /usr/bin/mender --data ${data} snapshot dump --quiet --source ${mountPoint}\n`,
  );
  chmodSync(path, 0o755);
  const [number = '', source = ''] = run('findmnt', '-no', 'MAJ:MIN,SOURCE', mountPoint)
    .trim()
    .split(/\s+/);
  mkdirSync('/dev/block', { recursive: true });
  run('ln', '-sf', source, `/dev/block/${number}`);
}

/** Bytes that one pull brought over the link, by ssh's own count, and how long it froze. */
function wireFigures(
  context: BenchContext,
  daemon: BenchDaemon,
  { sshd, mountPoint }: { readonly sshd: BenchSshd; readonly mountPoint: string },
): string {
  const log = join(context.scratch, 'ssh.log');
  const freezes: number[] = [];
  const wire: number[] = [];
  let storedMb = 0;
  for (let round = 0; round < context.rounds; round++) {
    rmSync(log, { force: true });
    const name = `pulled-${round}`;
    const ssh = ['-S', '-v', '-S', '-E', '-S', log, '-S', '-F', '-S', sshd.config];
    const words = ['snapshot', 'pull', sshd.url, ...ssh, '--source', mountPoint, '--name', name];
    const image: { freeze_ms: number; added_bytes: number } = JSON.parse(
      daemon.ingot(...words, '--quiet', '--json'),
    );
    freezes.push(image.freeze_ms / 1000);
    if (round === 0) storedMb = image.added_bytes / 1e6;
    const received = /received (\d+) bytes/.exec(readFileSync(log, 'utf8'))?.[1];
    wire.push(Number(received ?? Number.NaN) / 1e6);
  }
  const wireMb = median(wire);
  return `On the wire ${wireMb.toFixed(1)} MB, stored ${storedMb.toFixed(1)} MB (${(wireMb / storedMb).toFixed(2)}); frozen for ${median(freezes).toFixed(2)} s.\n`;
}

async function pullOf(context: BenchContext, sshd: BenchSshd, image: string): Promise<string> {
  await using daemon = await startBenchDaemon(context.env);
  return withMounted(image, (mountPoint) => {
    offerMender(context, sshd, mountPoint);
    const output = join(context.scratch, 'pulled');
    const prepare = (): void => rmSync(output, { force: true });
    const flags = `-S -F -S ${sshd.config}`;
    const artifact = `write rootfs-image -f ${sshd.url} ${flags} -n r -t d --no-progress -o ${output}`;
    const { env } = context;
    const ours: Contestant[] = [
      {
        name: 'ingot snapshot pull -o',
        prepare,
        command: `${INGOT} snapshot pull ${sshd.url} ${flags} --source ${mountPoint} --quiet -o ${output}`,
        env,
      },
      {
        name: 'the same, --no-precopy',
        prepare,
        command: `${INGOT} snapshot pull ${sshd.url} ${flags} --source ${mountPoint} --no-precopy --quiet -o ${output}`,
        env,
      },
    ];
    const filesystem = spawnSync('stat', ['-fc', '%T', mountPoint], { encoding: 'utf8' });
    const isExt = filesystem.stdout.trim() === 'ext2/ext3';
    // mender-artifact takes ext filesystems only.
    const peer = {
      name: 'mender-artifact write -f ssh://',
      prepare,
      command: `mender-artifact ${artifact}`,
    };
    const standings = compare(isExt ? [...ours, peer] : ours, context.rounds);
    rmSync(output, { force: true });
    // Before the import, which would leave nothing to store.
    const wire = wireFigures(context, daemon, { sshd, mountPoint });
    const seconds = timeOnce(
      `${INGOT} images import --quiet --source ${mountPoint} --name local`,
      daemon.env,
    ).wallSeconds;
    return [
      table(`${filesystem.stdout.trim()} over ssh on loopback`, standings),
      wire,
      `Import of the same, mounted here: ${seconds.toFixed(2)} s.\n`,
    ].join('\n');
  });
}

/** W1 and W4, mounted, over ssh on loopback: time, bytes on the wire, freeze. */
export async function pullFigures(context: BenchContext): Promise<string> {
  await using daemon = await startSshd();
  const sshd = reach(daemon);
  using _tracing = mountTracing();
  const parts: string[] = [];
  for (const filesystem of ['ext4', 'xfs', 'btrfs'] as const) {
    const copy = join(context.scratch, `pulled-${filesystem}.img`);
    if (filesystem === 'ext4') run('cp', '--sparse=always', context.w1, copy);
    else makeW4(copy, context.w1, filesystem, context.scale);
    parts.push(await pullOf(context, sshd, copy));
    rmSync(copy);
  }
  return parts.join('\n');
}
