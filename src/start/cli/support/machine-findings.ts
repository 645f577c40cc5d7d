import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { formatBytes, GIB, IngotError } from '../../../base/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { DaemonClient } from '../../client/daemon-client.ts';
import { readDaemonSettings } from '../../settings/daemon-settings.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';

/** One thing that Ingot can use, and whether it is here. */
export interface Finding {
  readonly name: string;
  readonly isOk: boolean;
  /** What was found, or what cannot be done without it. */
  readonly detail: string;
  /** The command that gets it. */
  readonly fix: string | undefined;
}

/** Bit of CAP_SYS_ADMIN, which freezing needs (capabilities(7)). */
const CAP_SYS_ADMIN = 21n;
/** Less free space than this is worth a word. */
const LITTLE_SPACE_BYTES = 2 * GIB;
const PATIENCE_MS = 5000;

/** Programs that parts of Ingot call, by package: all of them must be there. */
const PACKAGES: readonly {
  readonly name: string;
  readonly programs: readonly string[];
  readonly packageName: string;
  readonly without: string;
}[] = [
  {
    name: 'qemu',
    programs: ['qemu-img', 'qemu-system-x86_64'],
    packageName: 'qemu-utils qemu-system-x86',
    without: 'no servers, no import of qcow2, vmdk, vdi and vhdx',
  },
  {
    name: 'ssh',
    programs: ['ssh'],
    packageName: 'openssh-client',
    without: 'no ingot snapshot pull',
  },
  {
    name: 'e2fsprogs',
    programs: ['e2fsck', 'debugfs'],
    packageName: 'e2fsprogs',
    without: 'no ingot images generalize of ext2, ext3 and ext4',
  },
  {
    name: 'xfsprogs',
    programs: ['xfs_repair'],
    packageName: 'xfsprogs',
    without: 'XFS images cannot be repaired',
  },
  {
    name: 'btrfs-progs',
    programs: ['btrfs'],
    packageName: 'btrfs-progs',
    without: 'btrfs images cannot be checked',
  },
];

/** Looks at this machine, its data directory and its daemon. */
export async function examineMachine(
  context: CliContext,
  options: { readonly data?: string | undefined; readonly profile?: string | undefined },
): Promise<Finding[]> {
  return [
    ...privileges(),
    loopDevices(),
    await engine(),
    ...PACKAGES.map((wanted) => programs(wanted, context.env['PATH'])),
    space(context, options.data),
    await daemon(context, options.profile),
  ];
}

function privileges(): Finding[] {
  const isRoot = process.getuid?.() === 0;
  const mayFreeze = isRoot && hasCapability(CAP_SYS_ADMIN);
  return [
    {
      name: 'root',
      isOk: isRoot,
      detail: isRoot ? 'this user may read devices' : 'no capture of what is mounted',
      fix: isRoot ? undefined : 'sudo ingot …',
    },
    {
      name: 'freeze',
      isOk: mayFreeze,
      detail: mayFreeze ? 'this process may freeze filesystems' : 'no consistent live capture',
      fix: mayFreeze ? undefined : 'sudo ingot … (in a container: --cap-add SYS_ADMIN)',
    },
  ];
}

function hasCapability(bit: bigint): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(
      readFileSync('/proc/self/status', 'utf8'),
    )?.[1];
    return effective !== undefined && (BigInt(`0x${effective}`) & (1n << bit)) !== 0n;
  } catch {
    // Without /proc nothing can be told; root is taken to have it.
    return true;
  }
}

function loopDevices(): Finding {
  const isOk = existsSync('/dev/loop-control');
  return {
    name: 'loop',
    isOk,
    detail: isOk ? '/dev/loop-control' : 'image files cannot be mounted',
    fix: isOk ? undefined : 'modprobe loop',
  };
}

async function engine(): Promise<Finding> {
  const { codec, reason } = await openFastestCodec();
  const isOk = codec.name.startsWith('isal');
  return {
    name: 'ISA-L',
    isOk,
    detail: `engine ${codec.name}: ${reason}`,
    fix: isOk ? undefined : 'apt-get install libisal2',
  };
}

function programs(wanted: (typeof PACKAGES)[number], path: string | undefined): Finding {
  const absent = wanted.programs.filter((program) => findProgram(program, path) === undefined);
  const isOk = absent.length === 0;
  return {
    name: wanted.name,
    isOk,
    detail: isOk
      ? wanted.programs.map((program) => findProgram(program, path)).join(' ')
      : `${absent.join(', ')}: ${wanted.without}`,
    fix: isOk ? undefined : `apt-get install ${wanted.packageName}`,
  };
}

function findProgram(name: string, path = ''): string | undefined {
  const folders = [...path.split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return folders
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function space(context: CliContext, data: string | undefined): Finding {
  const { dataDirectory } = readDaemonSettings({
    flags: data === undefined ? {} : { data },
    env: context.env,
    configFile: undefined,
    isRoot: process.getuid?.() === 0,
  });
  let folder = dataDirectory;
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const freeBytes = bavail * bsize;
  const isOk = freeBytes >= LITTLE_SPACE_BYTES;
  return {
    name: 'space',
    isOk,
    detail: `${formatBytes(freeBytes)} free for ${dataDirectory}`,
    fix: isOk ? undefined : 'ingot library gc, or another --data',
  };
}

async function daemon(context: CliContext, name: string | undefined): Promise<Finding> {
  try {
    const profile = chooseProfile(context.env, name);
    using client = new DaemonClient(profile, AbortSignal.timeout(PATIENCE_MS));
    await client.login();
    return {
      name: 'daemon',
      isOk: true,
      detail: `${client.url} as ${profile.client}`,
      fix: undefined,
    };
  } catch (thrown) {
    const words = thrown instanceof IngotError ? thrown.message : 'no answer';
    return { name: 'daemon', isOk: false, detail: words, fix: 'ingot serve, or ingot login URL' };
  }
}
