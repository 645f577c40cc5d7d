import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A port may be taken between the moment that it was free and the start of who wants it. */
const MAX_TRIES = 5;

/** A real sshd on loopback that knows one key; disposing ends it and removes its folder. */
export interface Sshd extends AsyncDisposable {
  readonly port: number;
  /** Everything of it lies here; every user may look in. */
  readonly folder: string;
  /** The client's private key. */
  readonly identity: string;
  /** The public host key, as `known_hosts` has it. */
  readonly hostKey: string;
  /** First in the PATH of every session: who calls puts programs over the device's. */
  readonly programs: string;
}

/** Where an sshd listens. */
export interface SshdOptions {
  /** The command that starts sshd goes behind these words: another network namespace. */
  readonly prefix?: readonly string[] | undefined;
  /** IPv4, or IPv6 without brackets. */
  readonly address?: string | undefined;
}

/** @returns a port of 127.0.0.1 that was free a moment ago */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}

/** Makes a key pair. @returns the public key, without its comment */
export function makeKeyPair(path: string): string {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', path]);
  return readFileSync(`${path}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
}

/** Starts sshd and waits until it listens. */
export async function startSshd({
  prefix = [],
  address = '127.0.0.1',
}: SshdOptions = {}): Promise<Sshd> {
  await using undo = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-sshd-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  const programs = join(folder, 'programs');
  mkdirSync(programs);
  const hostKey = makeKeyPair(join(folder, 'host_key'));
  const identity = join(folder, 'client_key');
  writeFileSync(join(folder, 'authorized_keys'), `${makeKeyPair(identity)}\n`);
  mkdirSync('/run/sshd', { recursive: true });
  for (let turn = 1; ; turn += 1) {
    const port = await freePort();
    const config = join(folder, 'sshd_config');
    writeFileSync(config, configOf({ folder, port, address }));
    const argv = [...prefix, '/usr/sbin/sshd', '-D', '-e', '-f', config];
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
    const said = await untilListening(child);
    if (said === undefined) {
      undo.defer(() => endProcess(child));
      const owned = undo.move();
      const end = (): Promise<void> => owned.disposeAsync();
      return { port, folder, identity, hostKey, programs, [Symbol.asyncDispose]: end };
    }
    if (turn === MAX_TRIES) throw new Error(`sshd does not start: ${said}`);
  }
}

function configOf(facts: {
  readonly folder: string;
  readonly port: number;
  readonly address: string;
}): string {
  const { folder, port, address } = facts;
  return `Port ${port}
ListenAddress ${address.includes(':') ? `[${address}]` : address}
HostKey ${folder}/host_key
AuthorizedKeysFile ${folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
UseDNS no
SetEnv PATH=${folder}/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`;
}

/** @returns undefined once it listens, or what it said before it ended */
async function untilListening(child: ChildProcess): Promise<string | undefined> {
  let said = '';
  const { stderr } = child;
  if (stderr === null) throw new Error('sshd has no stderr');
  stderr.setEncoding('utf8');
  const listening = new Promise<true>((resolve) => {
    stderr.on('data', (text: string) => {
      said += text;
      if (said.includes('listening')) resolve(true);
    });
  });
  const ended = once(child, 'close').then(() => false);
  return (await Promise.race([listening, ended])) ? undefined : said;
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
