import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { NODE_FLAGS } from '../../src/base/index.ts';

const main = join(import.meta.dirname, '../../src/start/cli/main.ts');

/** A daemon as a process of its own. */
export interface ChildDaemon {
  readonly pid: number;
  readonly url: string;
  /** What a client needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** What it has said on stderr. */
  readonly words: () => string;
  /** Sends a signal that does not end it. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null>;
}

/** Daemons of one data directory, one after another. */
export interface DaemonFolder {
  /** @param options of `ingot serve` */
  start(...options: string[]): Promise<ChildDaemon>;
  /** @returns a file of the data directory, or undefined */
  fileAt(path: string): Stats | undefined;
  /** Ends whatever a failed test has left. */
  killAll(): void;
}

/**
 * Starts daemons in the folder `data` below this one.
 *
 * @param under words before the program, such as of setpriv(1)
 */
export function daemonFolder(folder: string, under: readonly string[] = []): DaemonFolder {
  const data = join(folder, 'data');
  const running = new Set<ChildProcess>();
  const env = { ...process.env, XDG_CONFIG_HOME: join(folder, 'config'), NO_COLOR: '1' };
  return {
    fileAt: (path) => statSync(join(data, path), { throwIfNoEntry: false }),
    killAll: () => {
      for (const child of running) child.kill('SIGKILL');
    },
    async start(...options) {
      const serve = ['serve', '--data', data, '--listen', '127.0.0.1:0', '--engine', 'zlib'];
      const node = [process.execPath, ...NODE_FLAGS, main];
      const [program = '', ...argv] = [...under, ...node, ...serve, ...options];
      const child = spawn(program, argv, { env, stdio: ['ignore', 'pipe', 'pipe'] });
      running.add(child);
      const exited = once(child, 'exit');
      let words = '';
      child.stderr.on('data', (bytes: Buffer) => {
        words += bytes.toString();
      });
      const said = await Promise.race([once(child.stdout, 'data'), exited]);
      assert.ok(String(said[0]).startsWith('http'), words);
      const url = String(said[0]).trim();
      const keys = readFileSync(join(data, 'keys/local-client.json'), 'utf8');
      const { client, secret } = JSON.parse(keys) as { client: string; secret: string };
      return {
        pid: child.pid ?? 0,
        url,
        env: { INGOT_URL: url, INGOT_CLIENT: client, INGOT_SECRET: secret },
        words: () => words,
        signal: (signal) => {
          child.kill(signal);
        },
        async end(signal) {
          child.kill(signal);
          const [code] = await exited;
          running.delete(child);
          return code as number | null;
        },
      };
    },
  };
}
