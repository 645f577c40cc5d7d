import { IngotError } from '../../base/index.ts';

const MAX_URL_CHARACTERS = 2048;

/**
 * Reads the URL of an import.
 *
 * @throws IngotError `request-invalid` when it is none of http or https, or holds a name and password
 */
export function importUrl(text: string): URL {
  const url = text.length <= MAX_URL_CHARACTERS && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new IngotError('request-invalid', 'the URL is none of http or https');
  }
  // It would stand in the state, in backups and in messages.
  if (url.username !== '' || url.password !== '') {
    throw new IngotError('request-invalid', 'the URL holds a name and password');
  }
  return url;
}

/** @returns what people may see of a URL: a query may hold a signature */
export function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/** What was learnt of a file on its way: the server's word for the version, and its size. */
export interface UrlVersion {
  /** A strong ETag or a date, for `If-Range`; undefined: a broken download begins anew. */
  readonly validator: string | undefined;
  readonly totalBytes: number | undefined;
}

/** An answer with the file, or with its rest. */
export interface UrlPart extends UrlVersion {
  /** Where its first byte belongs: 0 when the server begins anew. */
  readonly offsetBytes: number;
  readonly body: AsyncIterable<Buffer>;
}

/**
 * Asks for a file from a byte on.
 *
 * Every implementation gives up a server that says nothing, follows few redirects, and connects to
 * no address that it may not.
 *
 * @param from `validator` of the version whose first `offsetBytes` bytes are here
 * @throws IngotError `source-not-found`, `not-allowed`, `source-unsupported`: trying again is no use;
 *   `source-unreadable`: it may be
 */
export type OpenUrl = (
  url: URL,
  from: { readonly offsetBytes: number; readonly validator: string | undefined },
  signal: AbortSignal,
) => Promise<UrlPart>;
