/**
 * Assembles the root filesystem of a test guest: this machine's own Debian programs with their
 * libraries, modules of Debian's kernel, and an sshd that knows one key.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CpioArchive } from './cpio-archive.ts';
import { modulesInLoadOrder } from './guest-modules.ts';
import { unpackedPackage } from './guest-packages.ts';

/** What a guest can be asked to bring, beside a plain system with sshd. */
export type GuestFeature = 'btrfs' | 'ext4' | 'f2fs' | 'jfs' | 'lvm' | 'node' | 'reiserfs' | 'xfs';

interface FeatureParts {
  /** Module names as modprobe takes them. */
  readonly modules: readonly string[];
  /** Debian packages to unpack for it; empty: this machine has the tools installed. */
  readonly packages: readonly string[];
  readonly programs: readonly string[];
}

const FEATURES: Readonly<Record<GuestFeature, FeatureParts>> = {
  btrfs: { modules: ['btrfs'], packages: [], programs: ['mkfs.btrfs', 'btrfs'] },
  ext4: { modules: ['ext4'], packages: [], programs: ['mke2fs', 'e2fsck', 'dumpe2fs'] },
  f2fs: { modules: ['crc32_generic', 'f2fs'], packages: [], programs: ['mkfs.f2fs', 'fsck.f2fs'] },
  jfs: { modules: ['jfs'], packages: ['jfsutils'], programs: ['jfs_mkfs', 'fsck.jfs'] },
  lvm: {
    modules: ['dm-mod', 'dm-snapshot'],
    packages: ['lvm2', 'libaio1', 'libdevmapper-event1.02.1', 'libedit2', 'libdevmapper1.02.1'],
    programs: ['lvm'],
  },
  // This very Node, and what mounts the source tree of this machine.
  node: { modules: ['9pnet_virtio', '9p'], packages: [], programs: [process.execPath] },
  reiserfs: {
    modules: ['reiserfs'],
    packages: ['reiserfsprogs'],
    programs: ['mkreiserfs', 'reiserfsck'],
  },
  xfs: { modules: ['xfs'], packages: [], programs: ['mkfs.xfs', 'xfs_repair'] },
};

const LVM_COMMANDS = ['lvcreate', 'lvremove', 'lvs', 'pvcreate', 'vgcreate', 'vgs', 'vgchange'];

/** What native add-ons need beside the libraries of Node itself. */
const ADDON_LIBRARIES = ['librt.so.1'];

const BASE_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng', 'crc32c_generic'];
/**
 * GNU and util-linux programs, found before busybox's own of the same name; dash because busybox's
 * sh runs its own programs whatever PATH says.
 */
const BASE_PROGRAMS = [
  'sshd',
  'dash',
  'dd',
  'blockdev',
  'fsfreeze',
  'sha256sum',
  'blkid',
  'lsblk',
  'gzip',
];

/** lvm in a system without udev. */
const LVM_SETTINGS = `activation { udev_sync=0 udev_rules=0 }
devices { use_devicesfile=0 external_device_info_source="none" obtain_device_list_from_udev=0 }
backup { backup=0 archive=0 }
`;

const SSHD_SETTINGS = `Port 22
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
`;

/** The keys that the guest's sshd shows and accepts. */
export interface GuestKeys {
  /** The private host key, in OpenSSH's own format. */
  readonly hostKey: Buffer;
  /** One line of an `authorized_keys` file. */
  readonly authorizedKey: string;
}

/** @returns an uncompressed initramfs for the unpacked kernel package `kernelFolder` */
export function guestInitramfs(
  kernelFolder: string,
  features: readonly GuestFeature[],
  keys: GuestKeys,
): Buffer {
  const archive = new CpioArchive();
  archive.addFile('/init', readFileSync(join(import.meta.dirname, 'init.sh')), 0o755);
  archive.addFile('/bin/busybox', readFileSync(programPath('busybox', [])), 0o755);
  archive.addLink('/bin/sh', '/usr/bin/dash');
  addSettings(archive, keys);
  addModules(archive, kernelFolder, features);
  for (const name of BASE_PROGRAMS) addProgram(archive, programPath(name, []), []);
  for (const feature of features) {
    const { packages, programs } = FEATURES[feature];
    const folders = packages.map(unpackedPackage);
    for (const name of programs) addProgram(archive, programPath(name, folders), folders);
  }
  if (features.includes('lvm')) {
    for (const name of LVM_COMMANDS) archive.addLink(`/usr/bin/${name}`, 'lvm');
    archive.addFile('/etc/lvm/lvm.conf', LVM_SETTINGS);
  }
  if (features.includes('node')) {
    for (const name of ADDON_LIBRARIES) {
      const path = `/lib/x86_64-linux-gnu/${name}`;
      archive.addFile(path, readFileSync(path), 0o755);
    }
  }
  return archive.toBuffer();
}

function addSettings(archive: CpioArchive, keys: GuestKeys): void {
  archive.addFolder('/root', 0o700);
  archive.addFile(
    '/etc/passwd',
    'root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n',
  );
  archive.addFile('/etc/group', 'root:x:0:\nnogroup:x:65534:\n');
  archive.addFile('/etc/shadow', 'root:*:19000::::::\nsshd:!:19000::::::\n', 0o600);
  archive.addFile('/etc/ssh/sshd_config', SSHD_SETTINGS);
  archive.addFile('/etc/ssh/host_key', keys.hostKey, 0o600);
  archive.addFile('/etc/ssh/authorized_keys', keys.authorizedKey, 0o600);
}

function addModules(
  archive: CpioArchive,
  kernelFolder: string,
  features: readonly GuestFeature[],
): void {
  const wanted = [...BASE_MODULES, ...features.flatMap((name) => FEATURES[name].modules)];
  const modules = modulesInLoadOrder(kernelFolder, wanted);
  for (const { name, path } of modules) {
    archive.addFile(`/lib/modules/${name}.ko`, readFileSync(path));
  }
  archive.addFile('/etc/modules.list', modules.map(({ name }) => `${name}.ko\n`).join(''));
}

/** Programs of unpacked packages go before those of this machine. */
function programPath(name: string, folders: readonly string[]): string {
  if (name.startsWith('/')) return name;
  for (const root of [...folders, '/']) {
    for (const folder of ['usr/sbin', 'usr/bin', 'sbin', 'bin']) {
      const path = join(root, folder, name);
      if (existsSync(path)) return path;
    }
  }
  throw new Error(`${name} is not installed on this machine`);
}

/** Adds a program before busybox's own in PATH, and its libraries where its loader looks for them. */
function addProgram(archive: CpioArchive, path: string, folders: readonly string[]): void {
  archive.addFile(`/usr/bin/${path.slice(path.lastIndexOf('/') + 1)}`, readFileSync(path), 0o755);
  const libraryFolders = folders.flatMap((folder) =>
    globSync(['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'], { cwd: folder }).map((found) =>
      join(folder, found),
    ),
  );
  const env = { ...process.env, LD_LIBRARY_PATH: libraryFolders.join(':') };
  const listing = spawnSync('ldd', [path], { encoding: 'utf8', env });
  // A static program has no list, and ldd says so with a status of its own.
  if (listing.status !== 0) return;
  for (const [, wanted, found] of listing.stdout.matchAll(/(\S+) => (\S+) \(|^\s+(\/\S+) \(/gm)) {
    if (wanted === undefined || found === undefined) continue;
    archive.addFile(`/lib/x86_64-linux-gnu/${wanted}`, readFileSync(found), 0o755);
  }
  archive.addFile(
    '/lib64/ld-linux-x86-64.so.2',
    readFileSync('/lib64/ld-linux-x86-64.so.2'),
    0o755,
  );
}

/** @returns the path of the kernel inside an unpacked kernel package */
export function kernelImage(kernelFolder: string): string {
  const [image] = globSync('boot/vmlinuz-*', { cwd: kernelFolder });
  if (image === undefined) throw new Error(`${kernelFolder} holds no kernel`);
  return join(kernelFolder, image);
}
