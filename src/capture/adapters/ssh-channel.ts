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

/** What may have come and wait; then the pipe fills up. */
const MAX_HELD_BYTES = 512 * 1024;

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** A child process whose stdin and stdout lead to a shell on the device. */
export class ProcessChannel implements DeviceChannel {
  readonly name: string;
  readonly ended: Promise<ChannelEnd>;
  readonly output: AsyncIterator<Buffer, undefined>;
  readonly #child: Child;
  readonly #pieces: PieceQueue;
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
    this.#pieces = new PieceQueue(child.stdout);
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
    let silenceMs = LOGIN_SILENCE_MS;
    for (;;) {
      const next = await this.#pieces.next(silenceMs);
      if (next === 'late') {
        this.#child.kill('SIGKILL');
        throw new IngotError('ssh-failed', `${this.name} was silent for ${silenceMs / 1000} s`);
      }
      if (next === undefined) break;
      silenceMs = MAX_SILENCE_MS;
      yield next;
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

/** What came out of a pipe and was not taken yet. */
class PieceQueue {
  readonly #pipe: Readable;
  readonly #pieces: Buffer[] = [];
  #heldBytes = 0;
  #isOver = false;
  #failure: unknown;
  #wake: (how: 'come' | 'late') => void = () => undefined;

  constructor(pipe: Readable) {
    this.#pipe = pipe;
    pipe.on('data', (piece: Buffer) => {
      this.#pieces.push(piece);
      this.#heldBytes += piece.length;
      if (this.#heldBytes >= MAX_HELD_BYTES) pipe.pause();
      this.#wake('come');
    });
    const end = (): void => {
      this.#isOver = true;
      this.#wake('come');
    };
    pipe.once('end', end);
    pipe.once('close', end);
    pipe.once('error', (thrown) => {
      this.#failure = thrown;
      end();
    });
  }

  /** @returns undefined at the end; `late` when nothing came for so long */
  async next(timeoutMs: number): Promise<Buffer | 'late' | undefined> {
    if (this.#pieces.length === 0 && !this.#isOver && (await this.#come(timeoutMs)) === 'late') {
      return 'late';
    }
    const piece = this.#pieces.shift();
    if (piece === undefined) {
      if (this.#failure !== undefined) throw this.#failure;
      return undefined;
    }
    this.#heldBytes -= piece.length;
    if (this.#pipe.isPaused() && this.#heldBytes < MAX_HELD_BYTES / 2) this.#pipe.resume();
    return piece;
  }

  #come(timeoutMs: number): Promise<'come' | 'late'> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake('late'), timeoutMs);
      this.#wake = (how) => {
        clearTimeout(timer);
        resolve(how);
      };
    });
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
