import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './ingot-command.ts';
import { run } from './loop-filesystem.ts';

/** The password of {@link SshDaemon}'s user `golden`, who is root only through sudo. */
export const SUDO_PASSWORD = 'golden secret';

/** A real sshd on 127.0.0.1 with keys, users and rules of its own; disposing ends it. */
export interface SshDaemon extends AsyncDisposable {
  readonly port: number;
  /** For `ssh -F`: the hosts `root-device`, `golden-device` (sudo asks), `free-device` (it does not). */
  readonly config: string;
  /** The same with a known host key that is not this daemon's. */
  readonly wrongKeyConfig: string;
  /** A folder that goes first in the PATH of every session: a test puts programs over the device's. */
  readonly programs: string;
}

/** Where a daemon listens. */
export interface SshDaemonOptions {
  /** The command that starts sshd goes behind these words: another network namespace. */
  readonly prefix?: readonly string[];
  /** IPv4, or IPv6 without brackets. */
  readonly address?: string;
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

function keyPair(path: string): string {
  run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', path);
  return readFileSync(`${path}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
}

/** Adds two users for the time of the tests. */
function addUsers(folder: string, undo: DisposableStack): void {
  const hash = execFileSync('openssl', ['passwd', '-6', '-stdin'], {
    input: SUDO_PASSWORD,
    encoding: 'utf8',
  }).trim();
  for (const [name, id] of [
    ['golden', 64321],
    ['free', 64322],
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
  const users = { 'root-device': 'root', 'golden-device': 'golden', 'free-device': 'free' };
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Whether somebody listens on a port. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Starts sshd; its users exist only in this mount namespace. */
export async function startSshDaemon({
  prefix = [],
  address = '127.0.0.1',
}: SshDaemonOptions = {}): Promise<SshDaemon> {
  const undo = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-sshd-'));
  chmodSync(folder, 0o755);
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const users = undo.use(new DisposableStack());
  addUsers(folder, users);
  const hostKey = keyPair(join(folder, 'host_key'));
  const clientKey = keyPair(join(folder, 'client_key'));
  const otherKey = keyPair(join(folder, 'other_key'));
  writeFileSync(join(folder, 'authorized_keys'), `${clientKey}\n`);
  const port = await freePort();
  const programs = join(folder, 'programs');
  mkdirSync(programs);
  writeFileSync(
    join(folder, 'sshd_config'),
    `Port ${port}
ListenAddress ${address.includes(':') ? `[${address}]` : address}
HostKey ${join(folder, 'host_key')}
AuthorizedKeysFile ${join(folder, 'authorized_keys')}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
UseDNS no
SetEnv PATH=${programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`,
  );
  mkdirSync('/run/sshd', { recursive: true });
  const argv = [...prefix, '/usr/sbin/sshd', '-D', '-e', '-f', join(folder, 'sshd_config')];
  const daemon = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  undo.defer(() => endProcess(daemon));
  await eventually('sshd listening', () => (said.includes('listening') ? true : undefined));
  if (prefix.length === 0 && !(await answers(port)))
    throw new Error(`sshd does not answer: ${said}`);
  const config = join(folder, 'ssh_config');
  const wrongKeyConfig = join(folder, 'wrong_key_config');
  writeConfig(config, { folder, port, hostKey, address });
  writeConfig(wrongKeyConfig, { folder, port, hostKey: otherKey, address });
  return {
    port,
    config,
    wrongKeyConfig,
    programs,
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
