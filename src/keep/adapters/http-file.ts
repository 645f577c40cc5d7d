import { lookup as resolve } from 'node:dns';
import { once } from 'node:events';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { IngotError } from '../../base/index.ts';
import type { OpenUrl, UrlPart } from '../imports/url-source.ts';

/** How files are fetched. */
export interface HttpFileOptions {
  /** Which addresses may be connected to. */
  readonly mayConnectTo: (address: string) => boolean;
  /** Asked instead of the system's resolver (tests). */
  readonly lookup?: LookupFunction;
  readonly idleMs?: number;
}

const MAX_REDIRECTS = 5;
/** Silence of a server, before and in the middle of its answer. */
const IDLE_MS = 60_000;
const MAX_HEADER_BYTES = 32 * 1024;

/**
 * Fetches files over http and https.
 *
 * The address is looked up here, checked, and connected to as it was checked: a name that means
 * another host a moment later gains nothing. Each redirect is checked like the first URL; none leads
 * from https to http.
 */
export function openHttpFiles(options: HttpFileOptions): OpenUrl {
  return async (url, from, signal) => {
    let target = url;
    for (let redirects = 0; ; redirects++) {
      const answer = await ask(target, from, { ...options, signal });
      const location = redirectOf(answer);
      if (location === undefined) return partOf(answer, target, from);
      answer.destroy();
      if (redirects >= MAX_REDIRECTS) {
        throw new IngotError('source-unsupported', `more than ${MAX_REDIRECTS} redirects`);
      }
      target = redirected(target, location);
    }
  };
}

async function ask(
  url: URL,
  from: Parameters<OpenUrl>[1],
  options: HttpFileOptions & { readonly signal: AbortSignal },
): Promise<IncomingMessage> {
  const { mayConnectTo, signal, lookup = resolve as LookupFunction, idleMs = IDLE_MS } = options;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  // No look-up is made for an address, so it is checked here.
  if (isIP(host) !== 0 && !mayConnectTo(host)) throw notAllowed(url);
  const make = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const isResumed = from.offsetBytes > 0 && from.validator !== undefined;
  const request = make(url, {
    // A connection of its own, which nobody else has checked or not checked.
    agent: false,
    signal,
    maxHeaderSize: MAX_HEADER_BYTES,
    lookup: onlyAllowed(lookup, mayConnectTo, url),
    headers: {
      accept: '*/*',
      'accept-encoding': 'identity',
      'user-agent': 'ingot',
      ...(isResumed
        ? { range: `bytes=${from.offsetBytes}-`, 'if-range': from.validator ?? '' }
        : {}),
    },
  });
  request.setTimeout(idleMs, () => {
    request.destroy(new Error(`${url.host} said nothing for ${idleMs} ms`));
  });
  checkPeer(request, mayConnectTo, url);
  request.end();
  try {
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    return answer;
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof IngotError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IngotError('source-unreadable', `${url.host}: ${reason}`, {}, { cause });
  }
}

/** Looks names up, and gives on only addresses that may be connected to. */
function onlyAllowed(
  lookup: LookupFunction,
  mayConnectTo: HttpFileOptions['mayConnectTo'],
  url: URL,
): LookupFunction {
  return (hostname, options, done) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) {
        done(error, '');
        return;
      }
      const all = Array.isArray(found) ? found : [];
      const allowed = all.filter(({ address }) => mayConnectTo(address));
      const first = allowed[0];
      if (first === undefined) done(notAllowed(url), '');
      else if (options.all === true) done(null, allowed);
      else done(null, first.address, first.family);
    });
  };
}

/** The last word has the connection itself. */
function checkPeer(
  request: ClientRequest,
  mayConnectTo: HttpFileOptions['mayConnectTo'],
  url: URL,
): void {
  request.on('socket', (socket) => {
    socket.on('connect', () => {
      if (!mayConnectTo(socket.remoteAddress ?? '')) request.destroy(notAllowed(url));
    });
  });
}

function notAllowed(url: URL): IngotError {
  return new IngotError('not-allowed', `${url.host} is no address of the public network`, {
    host: url.host,
  });
}

function redirectOf(answer: IncomingMessage): string | undefined {
  const isRedirect = [301, 302, 303, 307, 308].includes(answer.statusCode ?? 0);
  return isRedirect ? answer.headers.location : undefined;
}

function redirected(from: URL, location: string): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const isWeb = target?.protocol === 'https:' || target?.protocol === 'http:';
  if (target === undefined || !isWeb || target.username !== '' || target.password !== '') {
    throw new IngotError('source-unsupported', `${from.host} redirects to no http or https URL`);
  }
  if (from.protocol === 'https:' && target.protocol === 'http:') {
    throw new IngotError('source-unsupported', `${from.host} redirects from https to http`);
  }
  return target;
}

function partOf(answer: IncomingMessage, url: URL, from: Parameters<OpenUrl>[1]): UrlPart {
  const { statusCode = 0, headers } = answer;
  const body = bytesOf(answer, url);
  const validator = validatorOf(headers);
  if (statusCode === 200) {
    const length = headers['content-length'];
    const totalBytes = length === undefined ? undefined : Number(length);
    return { offsetBytes: 0, totalBytes, validator, body };
  }
  const range = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(headers['content-range'] ?? '');
  if (statusCode === 206 && range !== null && Number(range[1]) === from.offsetBytes) {
    const totalBytes = range[2] === '*' ? undefined : Number(range[2]);
    return { offsetBytes: from.offsetBytes, totalBytes, validator, body };
  }
  answer.destroy();
  if (statusCode === 416 && headers['content-range'] === `bytes */${from.offsetBytes}`) {
    // All of it is here already.
    const { offsetBytes } = from;
    return { offsetBytes, totalBytes: offsetBytes, validator, body: nothing() };
  }
  const code =
    statusCode === 404 || statusCode === 410
      ? 'source-not-found'
      : statusCode >= 500 || statusCode === 429 || statusCode === 408 || statusCode === 416
        ? 'source-unreadable'
        : 'source-unsupported';
  throw new IngotError(code, `${url.host} answers ${statusCode}`, { status: statusCode });
}

async function* nothing(): AsyncGenerator<Buffer, void, undefined> {
  // No bytes are missing.
}

/** What names a version for `If-Range`: a strong ETag, or the date of the last change. */
function validatorOf(headers: IncomingMessage['headers']): string | undefined {
  const { etag } = headers;
  return etag?.startsWith('"') === true ? etag : headers['last-modified'];
}

async function* bytesOf(
  answer: IncomingMessage,
  url: URL,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    for await (const piece of answer) yield piece as Buffer;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IngotError('source-unreadable', `${url.host} broke off: ${reason}`, {}, { cause });
  }
}
