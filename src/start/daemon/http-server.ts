import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import type { Logger } from 'pino';
import type { Clock } from '../../base/index.ts';
import { NATIVE_PREFIX, type NativeBackend, nativeApi } from '../../serve/index.ts';
import type { DaemonSettings } from '../settings/daemon-settings.ts';
import { daemonMetrics } from './metrics.ts';
import { pinoLog } from './pino-log.ts';

/** What the HTTP port is made of. */
export interface HttpServerParts {
  readonly settings: Pick<DaemonSettings, 'tls' | 'trustProxy' | 'publicUrl'>;
  readonly backend: NativeBackend;
  readonly tokenSecret: Uint8Array;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly version: string;
  /** Tells whether the daemon can do its work; `/healthz` asks it. */
  readonly isHealthy: () => Promise<boolean>;
}

/** Builds the one HTTP port: protocols as encapsulated plugins, health and metrics at the root. */
export async function httpServer(parts: HttpServerParts): Promise<FastifyInstance> {
  const { settings, logger } = parts;
  const server = Fastify({
    loggerInstance: logger as FastifyBaseLogger,
    trustProxy: settings.trustProxy,
    // Each answered request at debug: an import is thousands of them.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 1024 * 1024,
    routerOptions: { maxParamLength: 256 },
    forceCloseConnections: 'idle',
    serverFactory: (handler) => listener(settings.tls, handler),
  });
  const metrics = daemonMetrics();
  server.addHook('onResponse', async (request, reply) => {
    const seconds = reply.elapsedTime / 1000;
    const route = request.routeOptions.url ?? 'none';
    metrics.observeRequest({
      method: request.method,
      route,
      status: reply.raw.statusCode,
      seconds,
    });
    logger.debug({ req: request, status: reply.raw.statusCode, seconds }, 'answered');
  });
  server.get('/healthz', async (_request, reply) => {
    const isHealthy = await parts.isHealthy();
    return reply.code(isHealthy ? 200 : 503).send({ status: isHealthy ? 'ok' : 'unusable' });
  });
  server.get('/metrics', async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.text()),
  );
  await server.register(nativeApi, {
    prefix: NATIVE_PREFIX,
    backend: parts.backend,
    clock: parts.clock,
    log: pinoLog(logger),
    metrics,
    tokenSecret: parts.tokenSecret,
    version: parts.version,
    publicUrl: settings.publicUrl,
  });
  return server;
}

/**
 * The server below Fastify. A request may be an upload of hours, so only its headers have a limit
 * of time here; bodies have a guard of their own.
 */
function listener(tls: DaemonSettings['tls'], handler: RequestListener): Server {
  const limits = {
    requestTimeout: 0,
    headersTimeout: 30_000,
    keepAliveTimeout: 75_000,
    maxHeaderSize: 32 * 1024,
  };
  if (tls === undefined) return createHttpServer(limits, handler);
  return createHttpsServer({ ...limits, ...tls }, handler);
}
