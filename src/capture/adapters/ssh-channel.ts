import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { ChannelEnd, DeviceChannel } from '../remote/device-channel.ts';
import type { SshTarget } from '../remote/ssh-target.ts';

/** The last words of ssh and of the device that a message can carry. */
const STDERR_TAIL_BYTES = 4096;
/** A session that is silent for so long is over, whatever TCP hopes for. */
const MAX_SILENCE_MS = 30_000;
/** Logging in may wait for a person: a key's passphrase, a second factor. */
const LOGIN_SILENCE_MS = 180_000;
/** How long the device's shell may take to thaw and end by itself. */
const END_GRACE_MS = 3000;

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** A child process whose stdin and stdout lead to a shell on the device. */
export class ProcessChannel implements DeviceChannel {
  readonly name: string;
  readonly ended: Promise<ChannelEnd>;
  readonly output: AsyncIterator<Buffer, undefined>;
  readonly #child: Child;
  #stderr = '';
  #counts = new Map<string, number>();
  #wakeStderr: () => void = () => undefined;
  #stderrWoke: Promise<void> = Promise.resolve();
  #spawnFailure: unknown;

  constructor(name: string, child: Child) {
    this.name = name;
    this.#child = child;
    this.#armStderr();
    this.ended = new Promise((resolve) => {
      child.once('close', (status, signal) => {
        this.#wakeStderr();
        resolve({ status: status ?? undefined, signal: signal ?? undefined });
      });
      child.once('error', (thrown) => {
        this.#spawnFailure = thrown;
        resolve({ status: undefined, signal: undefined });
      });
    });
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (text: string) => this.#hear(text));
    // Whatever cannot be sent any more shows as the end of the output.
    child.stdin.on('error', () => undefined);
    this.output = this.#read();
  }

  write(bytes: string): void {
    if (this.#child.stdin.writable) this.#child.stdin.write(bytes);
  }

  stderrTail(): string {
    return this.#stderr;
  }

  timesOnStderr(text: string): number {
    const seen = this.#stderr.split(text).length - 1;
    const count = Math.max(seen, this.#counts.get(text) ?? 0);
    this.#counts.set(text, count);
    return count;
  }

  stderrChanged(): Promise<void> {
    return this.#stderrWoke;
  }

  closeInput(): void {
    this.#child.stdin.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeInput();
    // What the device still sends is dropped: ssh ends when it has nowhere to write it.
    this.#child.stdout.destroy();
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), END_GRACE_MS);
    await this.ended;
    clearTimeout(killer);
  }

  #hear(text: string): void {
    this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL_BYTES);
    this.#wakeStderr();
    this.#armStderr();
  }

  #armStderr(): void {
    this.#stderrWoke = new Promise((resolve) => {
      this.#wakeStderr = resolve;
    });
  }

  async *#read(): AsyncGenerator<Buffer, undefined> {
    const pieces = this.#child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
    let silenceMs = LOGIN_SILENCE_MS;
    for (;;) {
      const next = await withDeadline(pieces.next(), silenceMs);
      if (next === 'late') {
        this.#child.kill('SIGKILL');
        throw new IngotError('ssh-failed', `${this.name} was silent for ${silenceMs / 1000} s`);
      }
      if (next.done === true) break;
      silenceMs = MAX_SILENCE_MS;
      yield next.value;
    }
    // A connection whose output is over has nothing more to give.
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), END_GRACE_MS);
    await this.ended;
    clearTimeout(killer);
    if (this.#spawnFailure !== undefined) {
      throw new IngotError(
        'tool-missing',
        `ssh cannot be started: ${errnoOf(this.#spawnFailure)}`,
        {},
        { cause: this.#spawnFailure },
      );
    }
    return undefined;
  }
}

async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs a command on a device over the system's ssh, with the user's configuration, agent, known
 * hosts and jump hosts.
 *
 * @param sshArguments go before our own, so that they win (ssh_config(5): the first value counts)
 */
export function openSshChannel(
  target: SshTarget,
  command: string,
  sshArguments: readonly string[],
): DeviceChannel {
  const argv = [
    ...sshArguments,
    ...(target.port === undefined ? [] : ['-p', String(target.port)]),
    ...['-T', '-x', '-e', 'none'],
    ...['-o', 'ServerAliveInterval=5', '-o', 'ServerAliveCountMax=6'],
    '--',
    target.destination,
    command,
  ];
  const child = spawn('ssh', argv, { stdio: ['pipe', 'pipe', 'pipe'] });
  return new ProcessChannel(target.name, child);
}
