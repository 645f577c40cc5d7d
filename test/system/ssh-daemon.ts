import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeKeyPair, type SshdOptions, startSshd } from '../support/sshd.ts';
import { run } from './loop-filesystem.ts';

/** The password of {@link SshDaemon}'s user `golden`, who is root only through sudo. */
export const SUDO_PASSWORD = 'golden secret';
const TRACING = '/sys/kernel/tracing';

/** A real sshd on 127.0.0.1 with keys, users and rules of its own; disposing ends it. */
export interface SshDaemon extends AsyncDisposable {
  readonly port: number;
  /** For `ssh -F`: the hosts `root-device`, `golden-device` (sudo asks), `free-device` (it does not), `plain-device` (no rights). */
  readonly config: string;
  /** The same with a known host key that is not this daemon's. */
  readonly wrongKeyConfig: string;
  /** A folder that goes first in the PATH of every session: a test puts programs over the device's. */
  readonly programs: string;
}

/** How a daemon runs. */
export interface SshDaemonOptions extends SshdOptions {
  /** Whether the device's root finds the kernel's log of requests (tracefs). Default: no. */
  readonly hasWriteLog?: boolean;
}

/** @returns why the daemon cannot run here, or undefined */
export function sshDaemonIsMissing(): string | undefined {
  if (process.env['INGOT_TEST_OWN_MOUNTS'] !== '1') {
    return 'it hides /etc/passwd, which needs a mount namespace of its own (npm run test:system)';
  }
  for (const program of ['/usr/sbin/sshd', '/usr/bin/sudo', '/usr/bin/openssl']) {
    try {
      readFileSync(program);
    } catch {
      return `${program} is not installed`;
    }
  }
  return undefined;
}

/** Puts a changed copy over a file of /etc, in this mount namespace only. */
function overlay(folder: string, path: string, change: (text: string) => string): () => void {
  const copy = join(folder, path.replaceAll('/', '_'));
  copyFileSync(path, copy);
  writeFileSync(copy, change(readFileSync(path, 'utf8')));
  run('mount', '--bind', copy, path);
  return () => {
    run('umount', path);
  };
}

/** Adds users for the time of the tests. */
function addUsers(folder: string, undo: DisposableStack): void {
  const hash = execFileSync('openssl', ['passwd', '-6', '-stdin'], {
    input: SUDO_PASSWORD,
    encoding: 'utf8',
  }).trim();
  for (const [name, id] of [
    ['golden', 64321],
    ['free', 64322],
    ['plain', 64323],
  ] as const) {
    mkdirSync(join(folder, name));
    const home = join(folder, name);
    undo.defer(
      overlay(folder, '/etc/passwd', (text) => `${text}${name}:x:${id}:${id}::${home}:/bin/sh\n`),
    );
    undo.defer(overlay(folder, '/etc/group', (text) => `${text}${name}:x:${id}:\n`));
    undo.defer(
      overlay(folder, '/etc/shadow', (text) => `${text}${name}:${hash}:19000:0:99999:7:::\n`),
    );
    chmodSync(join(folder, '_etc_shadow'), 0o600);
  }
  undo.defer(
    overlay(
      folder,
      '/etc/sudoers',
      () => 'root ALL=(ALL) ALL\ngolden ALL=(ALL) ALL\nfree ALL=(ALL) NOPASSWD: ALL\n',
    ),
  );
  chmodSync(join(folder, '_etc_sudoers'), 0o440);
}

function writeConfig(path: string, { folder, port, hostKey, address }: ConfigFacts): void {
  const known = `${path}-hosts`;
  writeFileSync(known, `device ${hostKey}\n`);
  const host = (name: string, user: string): string => `Host ${name}
  HostName ${address}
  Port ${port}
  User ${user}
  HostKeyAlias device
  IdentityFile ${join(folder, 'client_key')}
  IdentitiesOnly yes
  UserKnownHostsFile ${known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
`;
  const users = {
    'root-device': 'root',
    'golden-device': 'golden',
    'free-device': 'free',
    'plain-device': 'plain',
  };
  writeFileSync(path, '');
  for (const [name, user] of Object.entries(users)) appendFileSync(path, host(name, user));
  // For urls with the address itself: everything but the user, whom the url names.
  appendFileSync(path, host(address, 'root').replace(/ {2}(User|HostName) .*\n/g, ''));
}

interface ConfigFacts {
  readonly folder: string;
  readonly port: number;
  readonly hostKey: string;
  readonly address: string;
}

/** Shows or hides the kernel's tracing, in this mount namespace. */
function mountTracing(hasWriteLog: boolean): () => void {
  // Machines with systemd show it; the same over itself is refused.
  if (hasWriteLog && existsSync(join(TRACING, 'instances'))) return () => undefined;
  const words = hasWriteLog ? ['tracefs', 'nodev', TRACING] : ['tmpfs', 'nodev', TRACING];
  run('mount', '-t', ...words);
  return () => {
    run('umount', TRACING);
  };
}

/** Starts sshd; its users exist only in this mount namespace. */
export async function startSshDaemon({
  hasWriteLog = false,
  ...options
}: SshDaemonOptions = {}): Promise<SshDaemon> {
  await using undo = new AsyncDisposableStack();
  const { port, folder, programs, hostKey } = undo.use(await startSshd(options));
  const users = undo.use(new DisposableStack());
  addUsers(folder, users);
  users.defer(mountTracing(hasWriteLog));
  const otherKey = makeKeyPair(join(folder, 'other_key'));
  const { address = '127.0.0.1' } = options;
  const config = join(folder, 'ssh_config');
  const wrongKeyConfig = join(folder, 'wrong_key_config');
  writeConfig(config, { folder, port, hostKey, address });
  writeConfig(wrongKeyConfig, { folder, port, hostKey: otherKey, address });
  const owned = undo.move();
  return {
    port,
    config,
    wrongKeyConfig,
    programs,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
