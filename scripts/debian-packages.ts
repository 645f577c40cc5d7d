import { spawnSync } from 'node:child_process';

/** The Debian 12 packages that the tests and the demo speak to. */
const PACKAGES = [
  'btrfs-progs',
  'busybox-static',
  'curl',
  'dosfstools',
  'e2fsprogs',
  'f2fs-tools',
  'fdisk',
  'gdisk',
  'iproute2',
  'isal',
  'libarchive-tools',
  'libengine-pkcs11-openssl',
  'libisal2',
  'libnbd-bin',
  'mender-artifact',
  'mtools',
  'nbdkit',
  'openssh-client',
  'openssh-server',
  'partclone',
  'perl',
  'pigz',
  'procps',
  'python3',
  'qemu-system-x86',
  'qemu-utils',
  'rpm',
  'ruby',
  'shellcheck',
  'softhsm2',
  'squashfs-tools',
  'strace',
  'sudo',
  'util-linux',
  'xfsprogs',
  'xz-utils',
  'zstd',
  '7zip',
] as const;

function isInstalled(name: string): boolean {
  const query = spawnSync('dpkg', ['--status', name], { encoding: 'utf8' });
  return query.status === 0 && query.stdout.includes('Status: install ok installed');
}

/**
 * Installs what is missing when root on Debian; says by name what is left out otherwise.
 *
 * @param wanted names out of the list; all of them by default
 */
export function ensureDebianPackages(
  say: (line: string) => void,
  wanted: readonly string[] = PACKAGES,
): void {
  const missing = wanted.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    say(`not root: what needs these Debian packages is skipped: ${missing.join(' ')}`);
    return;
  }
  say(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  spawnSync('apt-get', ['update', '-qq'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const install = spawnSync(
    'apt-get',
    ['install', '-y', '-qq', '--no-install-recommends', ...missing],
    { env, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (install.status !== 0) {
    say(`apt-get ended with ${install.status}; tests whose peer is missing are skipped by name`);
  }
}
