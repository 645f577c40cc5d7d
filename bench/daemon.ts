import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parse as parseYaml } from 'yaml';

/** The command under test. */
export const INGOT = join(import.meta.dirname, '../bin/ingot');

/** A daemon of its own for a bench, in a fresh data directory. */
export interface BenchDaemon extends AsyncDisposable {
  readonly url: string;
  /** What a command needs in its environment to speak to this daemon. */
  readonly env: Readonly<Record<string, string>>;
  readonly dataDir: string;
  /** Runs `ingot` to its end. @returns stdout */
  ingot(...args: string[]): string;
  /** Gets a token, for peers that speak HTTP by themselves. */
  token(): Promise<string>;
  /** CPU that the daemon has taken so far, in seconds. */
  cpuSeconds(): number;
  /** Peak resident memory of the daemon so far, in MB. */
  peakMemoryMb(): number;
}

/** Starts a daemon and waits until it listens. */
export async function startBenchDaemon(
  extraEnv: Readonly<Record<string, string>> = {},
): Promise<BenchDaemon> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-bench-'));
  const env = { XDG_CONFIG_HOME: join(folder, 'config'), ...extraEnv };
  const dataDir = join(folder, 'library');
  const child = spawn(INGOT, ['serve', '--data', dataDir, '--listen', '127.0.0.1:0'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let url = '';
  for await (const line of createInterface({ input: child.stderr })) {
    const match = /listening.*?(http:\/\/[^\s"]+)/.exec(line);
    if (match?.[1] !== undefined) {
      url = match[1];
      break;
    }
  }
  if (url === '') throw new Error('the daemon ended before it listened');
  child.stderr.resume();
  return {
    url,
    env,
    dataDir,
    ingot: (...args) => {
      const done = spawnSync(INGOT, args, {
        encoding: 'utf8',
        env: { ...process.env, ...env },
        maxBuffer: 64 * 1024 * 1024,
      });
      if (done.status !== 0) {
        throw new Error(`ingot ${args.join(' ')} ended with ${done.status}: ${done.stderr}`);
      }
      return done.stdout;
    },
    token: async () => {
      const path = join(folder, 'config/ingot/profiles.yaml');
      const { profiles } = parseYaml(readFileSync(path, 'utf8'));
      const [profile] = Object.values<{ client: string; secret: string }>(profiles);
      const answer = await fetch(`${url}/api/ingot/v1/token`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ client_id: profile?.client, client_secret: profile?.secret }),
      });
      const { access_token } = (await answer.json()) as { access_token: string };
      return access_token;
    },
    cpuSeconds: () => {
      const fields =
        readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      // utime and stime, in ticks of 10 ms (proc(5)).
      return (Number(fields[11]) + Number(fields[12])) / 100;
    },
    peakMemoryMb: () => {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) / 1024;
    },
    [Symbol.asyncDispose]: async () => {
      const gone = once(child, 'exit');
      if (child.kill('SIGTERM')) await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
