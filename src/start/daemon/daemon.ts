import { mkdir } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { errnoOf, IngotError, systemClock } from '../../base/index.ts';
import { publishRaw, publishRawGz } from '../../publish/index.ts';
import type { DaemonSettings, ListenAddress } from '../settings/daemon-settings.ts';
import { cronSchedules } from './cron-schedules.ts';
import { httpServer } from './http-server.ts';
import { libraryClients } from './library-clients.ts';
import { libraryState } from './library-state.ts';
import { libraryUpkeep } from './library-upkeep.ts';
import { type LocalClient, localClient } from './local-client.ts';
import { openImports } from './open-imports.ts';
import { openDirectoryLibrary } from './open-library.ts';
import { pinoLog, pinoLogger } from './pino-log.ts';
import { tokenSecret } from './token-secret.ts';

/** How long running requests may go on once the daemon was told to end. */
const DRAIN_MS = 10_000;

/** A daemon that runs. Disposal lets running requests end, then closes the library. */
export interface Daemon extends AsyncDisposable {
  /** How this machine reaches it. */
  readonly url: string;
  /** Name of the engine that codes segments. */
  readonly engine: string;
  readonly localClient: LocalClient;
}

/**
 * Opens the library in the data directory, or makes one, and serves it.
 *
 * @param parts `logTarget` takes the log, one JSON object a line
 * @throws IngotError `library-busy`, `library-unusable`, `settings-invalid` when the address is taken
 */
export async function startDaemon(
  settings: DaemonSettings,
  parts: { readonly version: string; readonly logTarget: NodeJS.WritableStream },
): Promise<Daemon> {
  const logger = pinoLogger(settings.logLevel, parts.logTarget);
  const log = pinoLog(logger);
  const keys = join(settings.dataDirectory, 'keys');
  await makeFolders(settings.dataDirectory, keys);
  await using undo = new AsyncDisposableStack();
  const opened = await openDirectoryLibrary(settings.dataDirectory, {
    engine: settings.engine,
    quietMs: settings.quietMs,
    clock: systemClock,
    log,
  });
  undo.use(opened);
  const { library, codec, workers } = opened;
  const imports = undo.use(await openImports(library, settings.dataDirectory, settings.imports));
  const local = await localClient(keys, library.accounts);
  const schedules = undo.use(await library.openSchedules(cronSchedules(settings.schedules)));
  const server = await httpServer({
    settings,
    backend: {
      clients: libraryClients(library.accounts),
      upkeep: libraryUpkeep(library, schedules),
      lend: (lengthBytes) => workers.lend(lengthBytes),
      library: ({ accountId }) => library.forAccount(accountId),
      imports: ({ accountId }) => imports.forAccount(accountId),
      openFile: async ({ accountId }, id, form) => {
        const image = await library.forAccount(accountId).open(id);
        return form === 'raw' ? publishRaw(image, codec) : publishRawGz(image);
      },
    },
    tokenSecret: await tokenSecret(keys),
    clock: systemClock,
    logger,
    version: parts.version,
    ...libraryState(library, {
      clock: systemClock,
      log,
      keepFreeBytes: settings.imports.diskReserveBytes,
    }),
  });
  undo.defer(() => drain(server));
  await listen(server, settings.listen);
  const url = localUrl(settings, server);
  log.info('the daemon serves', { url, data: settings.dataDirectory, engine: codec.name });
  const owned = undo.move();
  return {
    url,
    engine: codec.name,
    localClient: local,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function makeFolders(...folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    } catch (cause) {
      const errno = errnoOf(cause) ?? 'unknown';
      throw new IngotError(
        'library-unusable',
        `${folder} cannot be made: ${errno}`,
        { folder },
        { cause },
      );
    }
  }
}

async function listen(server: FastifyInstance, { host, port }: ListenAddress): Promise<void> {
  try {
    await server.listen({ host, port });
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'unknown';
    throw new IngotError(
      'settings-invalid',
      `cannot listen on ${host}:${port}: ${errno}`,
      { host, port },
      {
        cause,
      },
    );
  }
}

/** Stops listening, lets what runs end, and cuts what takes too long. */
async function drain(server: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => server.server.closeAllConnections(), DRAIN_MS);
  try {
    await server.close();
  } finally {
    clearTimeout(cut);
  }
}

/** The address by which this machine reaches the daemon, whatever interface it listens on. */
function localUrl(settings: DaemonSettings, server: FastifyInstance): string {
  const { address, port, family } = server.server.address() as AddressInfo;
  const isAny = address === '::' || address === '0.0.0.0';
  const host = isAny ? '127.0.0.1' : family === 'IPv6' ? `[${address}]` : address;
  return `${settings.tls === undefined ? 'http' : 'https'}://${host}:${port}`;
}
