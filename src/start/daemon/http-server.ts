import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import { type Clock, IngotError } from '../../base/index.ts';
import type { LibraryHealth } from '../../keep/index.ts';
import {
  type FailureAnswer,
  failureAnswer,
  loadNativeApi,
  NATIVE_PREFIX,
  type NativeBackend,
  nothingHere,
} from '../../serve/index.ts';
import type { DaemonSettings } from '../settings/daemon-settings.ts';
import { httpListener } from './http-listener.ts';
import { daemonMetrics, type LibraryGauges } from './metrics.ts';
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
  readonly health: () => Promise<LibraryHealth>;
  /** What the library and its jobs are; `/metrics` asks it. */
  readonly gauges: () => Promise<LibraryGauges>;
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
    serverFactory: (handler) => httpListener(settings.tls, handler),
    frameworkErrors: (thrown, _request, reply) => answerFailure(reply, failureAnswer(thrown)),
    clientErrorHandler: refuseBytes,
  });
  server.setErrorHandler((thrown, request, reply) => {
    const answer = failureAnswer(thrown);
    if (answer.isBug) logger.error({ requestId: request.id, stack: String(thrown) }, 'a bug');
    answerFailure(reply, answer);
  });
  server.setNotFoundHandler((request, reply) => {
    answerFailure(reply, nothingHere(request.method, request.url.replace(/[?#].*$/, '')));
  });
  server.addHook('preParsing', async (request, reply) => {
    const asks = /\b100-continue\b/i.test(request.headers.expect ?? '');
    if (asks && !reply.raw.headersSent) reply.raw.writeContinue();
  });
  const metrics = daemonMetrics(parts.gauges);
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
    const status = await parts.health();
    return reply.code(status === 'unusable' ? 503 : 200).send({ status });
  });
  server.get('/metrics', async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.text()),
  );
  await server.register(await loadNativeApi(), {
    prefix: NATIVE_PREFIX,
    backend: parts.backend,
    clock: parts.clock,
    log: pinoLog(logger),
    metrics,
    tokenSecret: parts.tokenSecret,
    version: parts.version,
    zstdVersion: process.versions['zstd'] ?? process.version,
    publicUrl: settings.publicUrl,
  });
  return server;
}

function answerFailure(reply: FastifyReply, { status, body }: FailureAnswer): void {
  void reply.code(status).type('application/json').send(JSON.stringify(body));
}

/** Answers bytes that are no request, in the form that every other failure has. */
function refuseBytes(thrown: Error & { code?: string }, socket: Socket): void {
  if (thrown.code === 'ECONNRESET' || socket.destroyed) return;
  const status = REFUSALS[thrown.code ?? ''] ?? 400;
  const { body } = failureAnswer(
    new IngotError(
      status === 431 ? 'request-too-large' : 'request-invalid',
      status === 431 ? 'the headers are too large' : 'the bytes are no request of HTTP',
    ),
  );
  const text = JSON.stringify(body);
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  if (socket.writable) socket.end(`${lines.join('\r\n')}\r\n\r\n${text}`);
  else socket.destroy();
}

/** Statuses of what Node refuses before there is a request. */
const REFUSALS: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};
