import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { DaemonSettings } from '../settings/daemon-settings.ts';

/** What one HTTP port bears. */
export interface ListenerLimits {
  /** Connections at once; each needs a file descriptor, and so do packs. */
  readonly maxConnections: number;
  /** How long the head of a request may take, and a connection that asks nothing. */
  readonly headMs: number;
  /** How long a connection is kept for the next request. */
  readonly keepAliveMs: number;
  /** How long a reader may take nothing of an answer that waits for it. */
  readonly stallMs: number;
}

/** The limits of a daemon. */
export const LISTENER_LIMITS: ListenerLimits = {
  maxConnections: 1024,
  headMs: 30_000,
  keepAliveMs: 75_000,
  stallMs: 120_000,
};

/** One head with the request line, or one set of headers. */
const MAX_HEAD_BYTES = 32 * 1024;
/** Requests that are sent before an earlier one is answered. Nobody who means well sends so many. */
const MAX_AHEAD = 64;

/**
 * Makes the server below Fastify. A request may be an upload of hours, so only its head has a limit
 * of time here; bodies have a guard of their own.
 *
 * - When there are too many connections, the one that has asked nothing for longest is closed: who
 *   opens thousands of them pushes out their own.
 * - Requests of one connection are worked on one after the other, however many are sent at once.
 * - A connection whose reader takes nothing of an answer is closed, whatever it asked for.
 */
export function httpListener(
  tls: DaemonSettings['tls'],
  handler: RequestListener,
  limits: ListenerLimits = LISTENER_LIMITS,
): Server {
  const options = {
    requestTimeout: 0,
    headersTimeout: limits.headMs,
    connectionsCheckingInterval: limits.headMs / 6,
    keepAliveTimeout: limits.keepAliveMs,
    maxHeaderSize: MAX_HEAD_BYTES,
  };
  const connections = new Connections(limits.maxConnections);
  const inTurn: RequestListener = (request, response) =>
    connections.inTurn(request, response, handler);
  const server =
    tls === undefined
      ? createHttpServer(options, inTurn)
      : createHttpsServer({ ...options, handshakeTimeout: limits.headMs, ...tls }, inTurn);
  // Who asks before it sends is told to go on once it is known who it is.
  server.on('checkContinue', inTurn);
  server.on('connection', (socket: Socket) => connections.add(socket));
  if (tls !== undefined) {
    server.on('secureConnection', (socket: Socket) => connections.add(socket));
  }
  server.setTimeout(limits.stallMs, (socket) => {
    // What is silent without an answer under way is the handler's to judge: it may read a disk back.
    if (!connections.isBusy(socket) || socket.writableLength > 0) socket.destroy();
  });
  return server;
}

type Work = () => void;

/** The connections of one port. */
class Connections {
  readonly #max: number;
  /**
   * Those without a request under way, the longest first. A connection with TLS follows the one
   * below it, under the same name.
   */
  readonly #idle = new Map<string, Socket>();
  /** Those with one, and what comes after it. */
  readonly #busy = new Map<string, Work[]>();

  constructor(max: number) {
    this.#max = max;
  }

  add(socket: Socket): void {
    const name = nameOf(socket);
    this.#idle.set(name, socket);
    socket.once('close', () => {
      if (this.#idle.get(name) === socket) this.#idle.delete(name);
      this.#busy.delete(name);
    });
    if (this.#idle.size + this.#busy.size <= this.#max) return;
    const [oldest] = this.#idle.entries();
    if (oldest === undefined) return;
    this.#idle.delete(oldest[0]);
    oldest[1].destroy();
  }

  isBusy(socket: Socket): boolean {
    return this.#busy.has(nameOf(socket));
  }

  inTurn(request: IncomingMessage, response: ServerResponse, handler: RequestListener): void {
    const { socket } = request;
    // What lay behind the request that closed the connection is still read.
    if (socket.destroyed) return;
    const name = nameOf(socket);
    const work = (): void => {
      response.once('close', () => this.#next(name, socket));
      handler(request, response);
    };
    const waiting = this.#busy.get(name);
    if (waiting === undefined) {
      this.#idle.delete(name);
      this.#busy.set(name, []);
      work();
    } else if (waiting.length < MAX_AHEAD) {
      waiting.push(work);
    } else {
      socket.destroy();
    }
  }

  #next(name: string, socket: Socket): void {
    if (socket.destroyed) return;
    const next = this.#busy.get(name)?.shift();
    if (next !== undefined) {
      next();
      return;
    }
    this.#busy.delete(name);
    this.#idle.set(name, socket);
  }
}

/** The same for a connection and for the one with TLS in it. */
function nameOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}
