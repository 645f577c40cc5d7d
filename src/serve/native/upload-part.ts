import type { IncomingHttpHeaders } from 'node:http';
import { type Digest, digestFromBytes, IngotError } from '../../base/index.ts';
import type { UploadPart } from '../../keep/index.ts';

/**
 * Reads from the headers which share of an upload a request has (docs/imports.md).
 *
 * `Content-Range` and the headers of resumable uploads say the same in two ways; curl can send both.
 *
 * @param method `PATCH` goes on where `Upload-Offset` says; `PUT` and `POST` without an offset begin
 *   anew and are whole
 * @throws IngotError `request-invalid`
 * @see RFC 9110 section 14.4, RFC 9530, draft-ietf-httpbis-resumable-upload
 */
export function uploadPartOf(method: string, headers: IncomingHttpHeaders): UploadPart {
  const said = {
    partSha256: digestField(headers, 'content-digest'),
    sha256: digestField(headers, 'repr-digest'),
  };
  const range = headers['content-range'];
  if (range !== undefined) return { ...said, ...rangePart(range) };
  const length = countField(headers, 'upload-length');
  const offset = countField(headers, 'upload-offset');
  if (offset === undefined && method === 'PATCH') {
    throw new IngotError('request-invalid', 'Upload-Offset is missing');
  }
  const bodyBytes = countField(headers, 'content-length');
  const end = bodyBytes === undefined ? undefined : (offset ?? 0) + bodyBytes;
  const isWhole = offset === undefined || (end !== undefined && end === length);
  const isLast = boolField(headers, 'upload-complete') ?? (isWhole || undefined);
  return {
    ...said,
    offsetBytes: offset ?? 'anew',
    totalBytes: length ?? (isLast === true ? end : undefined),
    isLast,
  };
}

/** `bytes 100-199/200`, or `bytes 100-199/*` while the whole is not known. */
function rangePart(text: string): Pick<UploadPart, 'offsetBytes' | 'totalBytes' | 'isLast'> {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(text);
  const [start, end] = [Number(match?.[1]), Number(match?.[2])];
  const total = match?.[3] === '*' ? undefined : Number(match?.[3]);
  if (match === null || end < start || (total !== undefined && end >= total)) {
    throw new IngotError('request-invalid', 'Content-Range is not of the form bytes A-B/SIZE');
  }
  return {
    offsetBytes: start,
    totalBytes: total,
    isLast: total === undefined ? undefined : end + 1 === total,
  };
}

function countField(headers: IncomingHttpHeaders, name: string): number | undefined {
  const text = headers[name];
  if (text === undefined) return undefined;
  if (typeof text === 'string' && /^\d{1,15}$/.test(text)) return Number(text);
  throw new IngotError('request-invalid', `${name} is no number of bytes`);
}

/** A boolean of structured fields: `?1`, `?0`. */
function boolField(headers: IncomingHttpHeaders, name: string): boolean | undefined {
  const text = headers[name];
  if (text === undefined) return undefined;
  if (text === '?1') return true;
  if (text === '?0') return false;
  throw new IngotError('request-invalid', `${name} is neither ?1 nor ?0`);
}

/** The SHA-256 of a digest field; other algorithms beside it are passed over. */
function digestField(headers: IncomingHttpHeaders, name: string): Digest | undefined {
  const text = headers[name];
  if (text === undefined) return undefined;
  const match = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(String(text));
  if (match?.[1] !== undefined) return digestFromBytes(Buffer.from(match[1], 'base64'));
  throw new IngotError('request-invalid', `${name} has no sha-256=:…: of 32 bytes`);
}
