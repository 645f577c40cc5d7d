import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, makeKeyPair } from '../support/sshd.ts';
import { type GuestFeature, guestInitramfs, kernelImage } from './guest-initramfs.ts';
import { kernelPackage, unpackedPackage, withSbin } from './guest-packages.ts';

/** From QEMU's start to an sshd that answers; measured: 10 s on a quiet machine without KVM. */
const BOOT_DEADLINE_MS = 120_000;
const COMMAND_TIMEOUT_MS = 120_000;

/** What {@link startGuest} is asked for. */
export interface GuestWish {
  /** Filesystems and other kernel parts to load, with their tools. */
  readonly features: readonly GuestFeature[];
  /** Blank disks by name, with their size in bytes; they appear as /dev/vda, /dev/vdb, … */
  readonly disks: Readonly<Record<string, number>>;
  /** Folders of this machine by the tag that `mount -t 9p` knows them by, to be read only. */
  readonly folders?: Readonly<Record<string, string>>;
}

/** A blank disk of a guest. */
interface GuestDisk {
  /** The device's path in the guest. */
  readonly device: string;
  /** The sparse file on this machine that holds the disk. */
  readonly file: string;
}

/**
 * A small Debian system in QEMU without KVM: its root is an initramfs, its disks are blank sparse
 * files, its only door is sshd on a port of 127.0.0.1.
 *
 * Disposing kills QEMU and removes every file. QEMU also dies with the process that started it.
 */
export interface Guest extends AsyncDisposable {
  readonly sshPort: number;
  /** Configuration for `ssh -F`: the host `guest` is this guest, with key and known host. */
  readonly sshConfig: string;
  readonly bootMs: number;
  disk(name: string): GuestDisk;
  /**
   * Runs a POSIX sh script in the guest as root.
   *
   * @returns its stdout, without the last line end
   * @throws Error with status, stderr and the console's end when the script does not end with 0
   */
  run(script: string): string;
  /** @returns what the guest wrote to its serial console */
  console(): string;
}

/** Boots a guest and waits until its sshd answers. */
export async function startGuest(wish: GuestWish): Promise<Guest> {
  await using undo = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-guest-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const kernelFolder = unpackedPackage(kernelPackage());
  makeKeyPair(join(folder, 'host_key'));
  makeKeyPair(join(folder, 'client_key'));
  const initramfs = guestInitramfs(kernelFolder, wish.features, {
    hostKey: readFileSync(join(folder, 'host_key')),
    authorizedKey: readFileSync(join(folder, 'client_key.pub'), 'utf8'),
  });
  writeFileSync(join(folder, 'initramfs'), initramfs);
  const disks = makeDisks(folder, wish.disks);
  const sshPort = await freePort();
  writeSshFiles(folder, sshPort);
  const consoleFile = join(folder, 'console.log');
  writeFileSync(consoleFile, '');

  const startedAt = performance.now();
  const qemu = startQemu(folder, kernelImage(kernelFolder), {
    disks,
    sshPort,
    folders: wish.folders ?? {},
  });
  undo.defer(() => endQemu(qemu));
  const sshConfig = join(folder, 'ssh_config');
  // One login serves all commands: without KVM each would cost over a second.
  undo.defer(() => {
    spawnSync('ssh', ['-F', sshConfig, '-O', 'exit', 'guest'], { stdio: 'ignore' });
  });
  const readConsole = (): string => readFileSync(consoleFile, 'utf8');
  await sshAnswers(qemu, sshConfig, readConsole);
  const bootMs = performance.now() - startedAt;
  const owned = undo.move();
  return {
    sshPort,
    sshConfig,
    bootMs,
    disk: (name) => {
      const found = disks.get(name);
      if (found === undefined) throw new Error(`the guest has no disk ${name}`);
      return found;
    },
    run: (script) => runInGuest(sshConfig, script, readConsole),
    console: readConsole,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function makeDisks(
  folder: string,
  wanted: Readonly<Record<string, number>>,
): ReadonlyMap<string, GuestDisk> {
  const disks = new Map<string, GuestDisk>();
  for (const [index, [name, sizeBytes]] of Object.entries(wanted).entries()) {
    const file = join(folder, `${name}.raw`);
    const handle = openSync(file, 'wx', 0o600);
    ftruncateSync(handle, sizeBytes);
    closeSync(handle);
    disks.set(name, { device: `/dev/vd${String.fromCharCode(97 + index)}`, file });
  }
  return disks;
}

function writeSshFiles(folder: string, port: number): void {
  const hostKey = readFileSync(join(folder, 'host_key.pub'), 'utf8')
    .split(' ')
    .slice(0, 2)
    .join(' ');
  writeFileSync(join(folder, 'known_hosts'), `guest ${hostKey}\n`);
  writeFileSync(
    join(folder, 'ssh_config'),
    `Host guest
  HostName 127.0.0.1
  Port ${port}
  User root
  HostKeyAlias guest
  IdentityFile ${join(folder, 'client_key')}
  IdentitiesOnly yes
  UserKnownHostsFile ${join(folder, 'known_hosts')}
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 30
  ControlMaster auto
  ControlPath ${join(folder, 'master')}
  ControlPersist 60
  LogLevel ERROR
`,
  );
}

function startQemu(
  folder: string,
  kernel: string,
  {
    disks,
    sshPort,
    folders,
  }: {
    readonly disks: ReadonlyMap<string, GuestDisk>;
    readonly sshPort: number;
    readonly folders: Readonly<Record<string, string>>;
  },
): ChildProcess {
  const argv = [
    ...['qemu-system-x86_64', '-M', 'pc,accel=tcg', '-cpu', 'max', '-m', '1280'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-serial', `file:${join(folder, 'console.log')}`],
    ...['-kernel', kernel, '-initrd', join(folder, 'initramfs')],
    ...['-append', 'console=ttyS0 quiet mitigations=off audit=0 nokaslr no_timer_check panic=-1'],
    ...['-netdev', `user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:${sshPort}-:22`],
    ...['-device', 'virtio-net-pci,netdev=net0,romfile=', '-device', 'virtio-rng-pci'],
    ...[...disks].flatMap(([name, { file }]) => [
      ...['-drive', `if=none,id=${name},format=raw,file=${file},discard=unmap`],
      ...['-device', `virtio-blk-pci,drive=${name},serial=${name}`],
    ]),
    ...Object.entries(folders).flatMap(([tag, path]) => [
      '-virtfs',
      `local,path=${path},mount_tag=${tag},security_model=none,readonly=on`,
    ]),
  ];
  // The kernel kills QEMU when this process dies, however it dies.
  return spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: withSbin(),
  });
}

async function endQemu(qemu: ChildProcess): Promise<void> {
  if (qemu.exitCode !== null || qemu.signalCode !== null) return;
  const ended = once(qemu, 'exit');
  qemu.kill('SIGKILL');
  await ended;
}

async function sshAnswers(
  qemu: ChildProcess,
  sshConfig: string,
  readConsole: () => string,
): Promise<void> {
  const deadline = performance.now() + BOOT_DEADLINE_MS;
  for (;;) {
    if (qemu.exitCode !== null) {
      throw new Error(
        `QEMU ended with ${qemu.exitCode}; the console: ${readConsole().slice(-2000)}`,
      );
    }
    if (readConsole().includes('INGOT-GUEST-READY')) {
      const probe = spawnSync('ssh', ['-F', sshConfig, 'guest', 'true'], { timeout: 30_000 });
      if (probe.status === 0) return;
    }
    if (performance.now() > deadline) {
      throw new Error(`the guest did not answer; the console: ${readConsole().slice(-2000)}`);
    }
    await sleep(100);
  }
}

function runInGuest(sshConfig: string, script: string, readConsole: () => string): string {
  const done = spawnSync('ssh', ['-F', sshConfig, 'guest', 'sh -eu'], {
    input: script,
    encoding: 'utf8',
    timeout: COMMAND_TIMEOUT_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (done.status !== 0) {
    throw new Error(
      `the guest's command ended with ${done.status ?? done.signal}: ${script}\n` +
        `${done.stderr}\nthe console: ${readConsole().slice(-1500)}`,
    );
  }
  return done.stdout.replace(/\n$/, '');
}
