import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './loop-filesystem.ts';

/** Prints variables of the boot loader from the file that stands for its environment. */
const PRINT_ENVIRONMENT = `#!/bin/sh
[ $# = 0 ] && exec cat /opt/environment
for name in "$@"; do
  grep "^$name=" /opt/environment || { echo "## Error: \\"$name\\" not defined" >&2; exit 1; }
done
`;

/** Sets variables: `NAME VALUE`, or lines of `NAME=VALUE` on stdin after `-s -`. */
const SET_ENVIRONMENT = `#!/bin/sh
if [ "$1" = -s ]; then lines=$(cat); else lines="$1=$2"; fi
printf '%s\\n' "$lines" | sed 's/[ =]/=/' | while IFS='=' read -r name value; do
  grep -v "^$name=" /opt/environment > /opt/environment.new
  echo "$name=$value" >> /opt/environment.new
  mv /opt/environment.new /opt/environment
done
`;

/** A device with two slots, as Mender's client sees it: slot A is its root, slot B is empty. */
export interface SlotDevice extends Disposable {
  /** The block device of slot B. */
  readonly inactive: string;
  /** Installs an artifact with Mender's own client. @returns what it said */
  install(artifact: string): string;
  /** The boot loader's variables. */
  environment(): ReadonlyMap<string, string>;
}

/** What the device needs and the machine does not have. */
export function slotDeviceIsMissing(): string | undefined {
  return spawnSync('mender', ['--version']).status === 0 ? undefined : 'mender is not installed';
}

/**
 * Makes a device of two loop devices; the machine's own `/usr` is its `/usr`, and a file its boot
 * loader's environment.
 */
export function slotDevice({
  slotMiB,
  verifyKey,
}: {
  readonly slotMiB: number;
  /** PEM file; the client then takes signed artifacts only. */
  readonly verifyKey?: string;
}): SlotDevice {
  const undo = new DisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-slots-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const [active = '', inactive = ''] = ['a', 'b'].map((slot) => {
    const image = join(folder, `${slot}.img`);
    writeFileSync(image, '');
    truncateSync(image, slotMiB * 1024 * 1024);
    const device = run('losetup', '-f', '--show', image).trim();
    undo.defer(() => spawnSync('losetup', ['-d', device]));
    return device;
  });
  run('mkfs.ext4', '-q', '-F', active);
  const root = join(folder, 'root');
  const mount = (...words: readonly string[]): void => {
    run('mount', ...words);
    undo.defer(() => spawnSync('umount', ['-l', words.at(-1) ?? '']));
  };
  mkdirSync(root);
  mount(active, root);
  fillRoot(root, { active, inactive, verifyKey });
  mount('--bind', '/usr', join(root, 'usr'));
  mount('--bind', '/dev', join(root, 'dev'));
  mount('-t', 'proc', 'proc', join(root, 'proc'));
  mount('-t', 'sysfs', 'sysfs', join(root, 'sys'));
  const owned = undo.move();
  return {
    inactive,
    install: (artifact) => {
      cpSync(artifact, join(root, 'opt/new.mender'));
      const done = spawnSync(
        'chroot',
        [root, 'mender', '--no-syslog', 'install', '/opt/new.mender'],
        {
          encoding: 'utf8',
          env: { PATH: '/opt:/usr/sbin:/usr/bin:/sbin:/bin' },
          timeout: 240_000,
        },
      );
      if (done.status !== 0) throw new Error(`mender ended with ${done.status}: ${done.stderr}`);
      execFileSync('blockdev', ['--flushbufs', inactive]);
      return done.stderr;
    },
    environment: () =>
      new Map(
        readFileSync(join(root, 'opt/environment'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => [line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)]),
      ),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function fillRoot(
  root: string,
  facts: {
    readonly active: string;
    readonly inactive: string;
    readonly verifyKey: string | undefined;
  },
): void {
  const folders = ['usr', 'dev', 'proc', 'sys', 'tmp', 'opt', 'etc/mender', 'var/lib/mender'];
  for (const name of folders) mkdirSync(join(root, name), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    const path = join('/', name);
    if (existsSync(path) && lstatSync(path).isSymbolicLink()) {
      symlinkSync(`usr/${name}`, join(root, name));
    }
  }
  const { active, inactive, verifyKey } = facts;
  const settings: Record<string, string> = { RootfsPartA: active, RootfsPartB: inactive };
  if (verifyKey !== undefined) {
    cpSync(verifyKey, join(root, 'etc/mender/verify.pem'));
    settings['ArtifactVerifyKey'] = '/etc/mender/verify.pem';
  }
  writeFileSync(join(root, 'etc/mender/mender.conf'), JSON.stringify(settings));
  writeFileSync(join(root, 'etc/mender/artifact_info'), 'artifact_name=before\n');
  writeFileSync(join(root, 'var/lib/mender/device_type'), 'device_type=qemu\n');
  symlinkSync('/proc/self/mounts', join(root, 'etc/mtab'));
  appendFileSync(join(root, 'opt/environment'), `mender_boot_part=${partitionNumber(active)}\n`);
  for (const [name, script] of [
    ['fw_printenv', PRINT_ENVIRONMENT],
    ['fw_setenv', SET_ENVIRONMENT],
  ] as const) {
    writeFileSync(join(root, 'opt', name), script);
    chmodSync(join(root, 'opt', name), 0o755);
  }
}

/** The client knows a slot by the digits at the end of its device. */
export function partitionNumber(device: string): string {
  return /\d+$/.exec(device)?.[0] ?? '';
}
