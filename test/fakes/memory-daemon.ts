import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { systemClock } from '../../src/base/index.ts';
import { httpServer } from '../../src/start/daemon/http-server.ts';
import { MemoryBackend } from './memory-backend.ts';

/** A real HTTP port over an image library in memory, on a port that the system chose. */
export interface MemoryDaemon extends AsyncDisposable {
  readonly backend: MemoryBackend;
  readonly url: string;
  /** What a command needs in its environment to reach it. */
  readonly env: Readonly<Record<string, string>>;
}

const NO_GAUGES = { images: 0, storedBytes: 0, quarantinedChunks: 0, freeBytes: 0, jobs: [] };

/** Starts one. */
export async function startMemoryDaemon(): Promise<MemoryDaemon> {
  const backend = new MemoryBackend();
  const server = await httpServer({
    settings: { tls: undefined, trustProxy: false, publicUrl: undefined },
    backend,
    tokenSecret: Buffer.alloc(32, 7),
    clock: systemClock,
    logger: pino({ enabled: false }),
    version: '0.0.0',
    health: async () => 'ok',
    gauges: async () => NO_GAUGES,
  });
  await server.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
  return {
    backend,
    url,
    env: {
      INGOT_URL: url,
      INGOT_CLIENT: backend.caller.clientId,
      INGOT_SECRET: backend.secret,
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
}
