/** How the payload of a `data` frame is coded on the wire. */
export const WIRE_CODECS = ['none', 'gzip', 'zstd'] as const;

/** One of {@link WIRE_CODECS}. */
export type WireCodec = (typeof WIRE_CODECS)[number];

/** The longest line that begins a frame, in bytes without its line end. */
export const MAX_FRAME_LINE_BYTES = 4096;

/**
 * The line that begins a frame of the pull protocol.
 *
 * @see docs/formats/pull-protocol.md
 */
export type PullFrame =
  | { readonly kind: 'ready'; readonly version: number }
  | { readonly kind: 'ok' | 'guarded' | 'thawed' | 'no-sudo' }
  | { readonly kind: 'root'; readonly nonce: string }
  | { readonly kind: 'text'; readonly lengthBytes: number }
  | {
      readonly kind: 'data';
      readonly sequence: number;
      readonly codec: WireCodec;
      readonly lengthBytes: number;
    }
  | { readonly kind: 'done'; readonly sequence: number; readonly digest: string | undefined }
  | { readonly kind: 'sums'; readonly sequence: number; readonly digests: readonly string[] }
  | { readonly kind: 'frozen'; readonly snapshotDevice: string | undefined }
  | { readonly kind: 'not-frozen'; readonly why: 'busy' | 'failed'; readonly text: string }
  | { readonly kind: 'not-thawed'; readonly text: string }
  | { readonly kind: 'bye'; readonly totalBytes: number };

const PREFIX = 'INGOT ';

function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

function parseData(words: readonly string[]): PullFrame | undefined {
  const sequence = wholeNumber(words[1]);
  const codec = WIRE_CODECS.find((name) => name === words[2]);
  const lengthBytes = wholeNumber(words[3]);
  if (sequence === undefined || codec === undefined || lengthBytes === undefined) return undefined;
  return { kind: 'data', sequence, codec, lengthBytes };
}

function parseDone(words: readonly string[]): PullFrame | undefined {
  const sequence = wholeNumber(words[1]);
  const digest = words[2] ?? '';
  if (sequence === undefined || !/^(-|[0-9a-f]{64})$/.test(digest)) return undefined;
  return { kind: 'done', sequence, digest: digest === '-' ? undefined : digest };
}

function parseSums(words: readonly string[]): PullFrame | undefined {
  const sequence = wholeNumber(words[1]);
  const digests = words.slice(2);
  const areHex = digests.every((digest) => /^([0-9a-f]{64}){1,2}$/.test(digest));
  return sequence === undefined || !areHex ? undefined : { kind: 'sums', sequence, digests };
}

function parseRefusal(words: readonly string[]): PullFrame | undefined {
  const why = words[1];
  if (why !== 'busy' && why !== 'failed') return undefined;
  return { kind: 'not-frozen', why, text: words.slice(2).join(' ') };
}

function parseNumbered(kind: 'ready' | 'text' | 'bye', digits?: string): PullFrame | undefined {
  const value = wholeNumber(digits);
  if (value === undefined) return undefined;
  if (kind === 'ready') return { kind, version: value };
  return kind === 'text' ? { kind, lengthBytes: value } : { kind, totalBytes: value };
}

/** @returns the frame that `line` begins, or undefined when it begins none */
export function parsePullFrame(line: string): PullFrame | undefined {
  if (!line.startsWith(PREFIX)) return undefined;
  const words = line.slice(PREFIX.length).split(' ');
  const [kind] = words;
  switch (kind) {
    case 'ready':
    case 'text':
    case 'bye':
      return parseNumbered(kind, words[1]);
    case 'ok':
    case 'guarded':
    case 'thawed':
    case 'no-sudo':
      return { kind };
    case 'root':
      return { kind, nonce: words[1] ?? '' };
    case 'data':
      return parseData(words);
    case 'done':
      return parseDone(words);
    case 'sums':
      return parseSums(words);
    case 'frozen':
      return { kind, snapshotDevice: words[1] === '-' ? undefined : words[1] };
    case 'not-frozen':
      return parseRefusal(words);
    case 'not-thawed':
      return { kind, text: words.slice(1).join(' ') };
    default:
      return undefined;
  }
}
