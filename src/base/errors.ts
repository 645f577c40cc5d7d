/** What a caller is told about one kind of failure. */
interface Failure {
  /** HTTP status of an answer that carries it. */
  readonly http: number;
  /** Exit status of a command that ends with it: 20 to 99. */
  readonly exit: number;
  /** Whether the same call may work later by itself, after somebody mends something, or never. */
  readonly retry: 'never' | 'after-fix' | 'later';
}

/**
 * Failures that a caller can act on, in one table.
 *
 * Every protocol reads this table: HTTP answers with `http`, the command exits with `exit`, clients
 * decide by `retry`. Anything that is not an {@link IngotError} is a bug. Each code has a heading in
 * `docs/reference/errors.md` (a test compares the two).
 */
export const FAILURES = {
  // The image library: 20 to 39.
  'chunk-missing': { http: 500, exit: 20, retry: 'never' },
  'chunk-corrupt': { http: 500, exit: 21, retry: 'never' },
  'segment-malformed': { http: 422, exit: 22, retry: 'never' },
  'pack-corrupt': { http: 500, exit: 23, retry: 'never' },
  'manifest-invalid': { http: 422, exit: 24, retry: 'never' },
  'library-busy': { http: 409, exit: 25, retry: 'later' },
  'library-unusable': { http: 500, exit: 26, retry: 'after-fix' },
  'library-full': { http: 507, exit: 27, retry: 'after-fix' },
  'version-unknown': { http: 422, exit: 28, retry: 'never' },
  'image-not-found': { http: 404, exit: 30, retry: 'never' },
  'image-in-use': { http: 409, exit: 31, retry: 'after-fix' },
  'image-not-ready': { http: 409, exit: 32, retry: 'later' },
  'ingest-not-found': { http: 404, exit: 33, retry: 'never' },
  'ingest-expired': { http: 409, exit: 34, retry: 'later' },
  'job-not-found': { http: 404, exit: 35, retry: 'never' },
  'verify-failed': { http: 500, exit: 36, retry: 'after-fix' },
  // Capture: 40 to 59.
  'source-size-mismatch': { http: 422, exit: 40, retry: 'after-fix' },
  'source-frozen': { http: 409, exit: 41, retry: 'later' },
  'source-not-found': { http: 404, exit: 42, retry: 'after-fix' },
  'source-unsupported': { http: 422, exit: 43, retry: 'never' },
  'source-unreadable': { http: 500, exit: 44, retry: 'later' },
  'source-truncated': { http: 422, exit: 45, retry: 'later' },
  'freeze-failed': { http: 500, exit: 46, retry: 'after-fix' },
  'freeze-lost': { http: 500, exit: 47, retry: 'later' },
  'freeze-timeout': { http: 500, exit: 48, retry: 'later' },
  'target-would-freeze': { http: 409, exit: 49, retry: 'after-fix' },
  'target-is-terminal': { http: 400, exit: 50, retry: 'after-fix' },
  'target-too-small': { http: 422, exit: 51, retry: 'after-fix' },
  'target-full': { http: 507, exit: 52, retry: 'after-fix' },
  'target-closed': { http: 500, exit: 53, retry: 'later' },
  'target-in-use': { http: 409, exit: 54, retry: 'after-fix' },
  'not-root': { http: 403, exit: 55, retry: 'after-fix' },
  'filesystem-malformed': { http: 422, exit: 56, retry: 'never' },
  'tool-missing': { http: 500, exit: 57, retry: 'after-fix' },
  'target-unwritable': { http: 500, exit: 58, retry: 'after-fix' },
  'source-digest-mismatch': { http: 422, exit: 59, retry: 'later' },
  // Mender Artifacts: 60 to 69.
  'artifact-malformed': { http: 422, exit: 60, retry: 'never' },
  'artifact-unsupported': { http: 422, exit: 61, retry: 'never' },
  'artifact-too-large': { http: 413, exit: 62, retry: 'after-fix' },
  'artifact-not-signed': { http: 422, exit: 63, retry: 'after-fix' },
  'signature-invalid': { http: 422, exit: 64, retry: 'never' },
  'key-unusable': { http: 422, exit: 65, retry: 'after-fix' },
  'compression-malformed': { http: 422, exit: 66, retry: 'never' },
  'path-refused': { http: 422, exit: 67, retry: 'never' },
  'file-not-found': { http: 404, exit: 68, retry: 'after-fix' },
  // The daemon and its callers: 70 to 79.
  'not-authorized': { http: 401, exit: 70, retry: 'after-fix' },
  'not-allowed': { http: 403, exit: 71, retry: 'after-fix' },
  'request-invalid': { http: 400, exit: 72, retry: 'after-fix' },
  'request-too-large': { http: 413, exit: 73, retry: 'after-fix' },
  'range-not-satisfiable': { http: 416, exit: 74, retry: 'never' },
  'daemon-unreachable': { http: 503, exit: 75, retry: 'later' },
  'daemon-protocol': { http: 502, exit: 76, retry: 'never' },
  'profile-missing': { http: 401, exit: 77, retry: 'after-fix' },
  'settings-invalid': { http: 500, exit: 78, retry: 'after-fix' },
  'content-changed': { http: 412, exit: 79, retry: 'later' },
  'too-many-requests': { http: 429, exit: 90, retry: 'later' },
  'client-not-found': { http: 404, exit: 91, retry: 'never' },
  'offset-mismatch': { http: 409, exit: 92, retry: 'after-fix' },
  // ssh: 80 to 89.
  'ssh-failed': { http: 502, exit: 80, retry: 'later' },
  'remote-refused': { http: 502, exit: 81, retry: 'after-fix' },
  'frame-malformed': { http: 502, exit: 82, retry: 'later' },
} as const satisfies Record<string, Failure>;

/** One of the codes of {@link FAILURES}. */
export type FailureCode = keyof typeof FAILURES;

/** Tells whether a word, such as one that a daemon sent, is a code of the table. */
export function isFailureCode(code: string): code is FailureCode {
  return Object.hasOwn(FAILURES, code);
}

/** Names and numbers that belong to a failure, for programs; the message has them for people. */
export type FailureFacts = Readonly<Record<string, string | number>>;

/**
 * A failure named in {@link FAILURES}. Throw it with the facts that the reader needs.
 *
 * The message is a lower-case fact with names and numbers ("the source gave 5 of 8 bytes"). A
 * caller matches on `code`, never on text.
 */
export class IngotError extends Error {
  override readonly name = 'IngotError';
  readonly code: FailureCode;
  readonly facts: FailureFacts;

  constructor(
    code: FailureCode,
    message: string,
    facts: FailureFacts = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = code;
    this.facts = facts;
  }
}

/** Tells whether `thrown` is an {@link IngotError}, with this code where one is given. */
export function isFailure(thrown: unknown, code?: FailureCode): thrown is IngotError {
  return thrown instanceof IngotError && (code === undefined || thrown.code === code);
}

/** The `errno` name (`ENOSPC`, `EBUSY`, …) of what a Node call threw, or undefined. */
export function errnoOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}
