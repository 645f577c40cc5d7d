/** A part of a file: first byte, and one after the last. */
export interface ByteRange {
  readonly startByte: number;
  readonly endByte: number;
}

/** What a `Range` header asks of a file of a known size. */
export type RangeAnswer =
  | { readonly kind: 'whole' }
  | { readonly kind: 'part'; readonly range: ByteRange }
  | { readonly kind: 'unsatisfiable' };

const WHOLE: RangeAnswer = { kind: 'whole' };

/**
 * Reads a `Range` header as RFC 9110 section 14 has it.
 *
 * What is no byte range is ignored, as the RFC asks. Several ranges in one request are answered
 * with the whole file: it allows that, and no client of images asks for them.
 *
 * @param header the header's value, or undefined where there is none
 * @returns what to send of a file of `sizeBytes`
 * @see https://www.rfc-editor.org/rfc/rfc9110#section-14.2
 */
export function readRange(header: string | undefined, sizeBytes: number): RangeAnswer {
  if (header === undefined) return WHOLE;
  const match = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(header);
  if (match === null) return WHOLE;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return WHOLE;
  if (first === '') return suffix(Number(last), sizeBytes);
  const startByte = Number(first);
  if (last !== '' && Number(last) < startByte) return WHOLE;
  if (startByte >= sizeBytes) return { kind: 'unsatisfiable' };
  const endByte = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  return { kind: 'part', range: { startByte, endByte } };
}

function suffix(lengthBytes: number, sizeBytes: number): RangeAnswer {
  if (lengthBytes === 0 || sizeBytes === 0) return { kind: 'unsatisfiable' };
  const startByte = Math.max(0, sizeBytes - lengthBytes);
  return { kind: 'part', range: { startByte, endByte: sizeBytes } };
}

/**
 * Tells whether `If-Range` lets a part be sent: no such header, or the very same strong validator.
 *
 * Dates never match: two versions of a file may lie in one second.
 */
export function ifRangeHolds(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === `"${etag}"`;
}

/** Tells whether `If-Match` or `If-None-Match` names the file (`*` names every file). */
export function namesEtag(header: string, etag: string): boolean {
  if (header.trim() === '*') return true;
  return header.split(',').some((part) => part.trim().replace(/^W\//, '') === `"${etag}"`);
}
