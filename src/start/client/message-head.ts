/** What comes before the body of an HTTP answer. */
export interface MessageHead {
  readonly statusCode: number;
  /** By names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
}

/** What ends a head. */
export const HEAD_END: Buffer = Buffer.from('\r\n\r\n');

/**
 * Formats a request's head.
 *
 * @throws RangeError when a line would break into two
 * @see https://www.rfc-editor.org/rfc/rfc9112
 */
export function encodeHead(
  method: 'GET' | 'POST',
  url: URL,
  headers: Readonly<Record<string, string>>,
): string {
  const lines = [
    `${method} ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  for (const line of lines) {
    if (/[\r\n]/.test(line)) throw new RangeError('a header has a line break');
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** @param text a head without its end; what is none has the status 0 */
export function parseHead(text: string): MessageHead {
  const [first = '', ...lines] = text.split('\r\n');
  const statusCode = Number(/^HTTP\/1\.[01] (\d{3})\b/.exec(first)?.[1] ?? 0);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { statusCode, headers };
}
