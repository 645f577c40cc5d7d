const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Control characters, line separators, and marks that turn the direction of text around. */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\\]/gu;

/**
 * Formats a name out of an image for people: one line, without anything that a terminal obeys.
 *
 * Unsafe characters and bytes that are no UTF-8 become `\xNN` or `\u{NNNN}`, a backslash becomes
 * two; so different names look different.
 */
export function formatName(name: Buffer): string {
  const text = decodeName(name);
  if (text === undefined) {
    return [...name]
      .map((byte) => (isPlain(byte) ? String.fromCharCode(byte) : hex(byte)))
      .join('');
  }
  return text.replaceAll(UNSAFE, (c) => {
    if (c === '\\') return '\\\\';
    const code = c.codePointAt(0) ?? 0;
    return code < 0x100 ? hex(code) : `\\u{${code.toString(16)}}`;
  });
}

/** @returns the name as text, or undefined when it is no UTF-8 */
export function decodeName(name: Buffer): string | undefined {
  try {
    return utf8.decode(name);
  } catch {
    return undefined;
  }
}

function isPlain(byte: number): boolean {
  return byte > 0x1f && byte < 0x7f && byte !== 0x5c;
}

function hex(code: number): string {
  return `\\x${code.toString(16).padStart(2, '0')}`;
}
