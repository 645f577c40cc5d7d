import { FAILURES, IngotError, isFailure } from '../../../base/index.ts';

/** Exit status of a command that a signal or Ctrl-C ended. */
export const EXIT_CANCELLED = 130;
/** Exit status of a call with wrong words. */
export const EXIT_USAGE = 2;
/** Exit status of a bug in Ingot. */
const EXIT_BUG = 1;

/** What a command says and returns when it ends with `thrown`. */
export interface Ending {
  readonly exitStatus: number;
  /** One line for people. */
  readonly text: string;
  /** The same for programs: the last line on stderr with `--json`. */
  readonly json: Readonly<Record<string, unknown>>;
}

function causes(thrown: Error): string {
  const parts: string[] = [];
  let cause: unknown = thrown.cause;
  while (cause instanceof Error && parts.length < 3) {
    parts.push(cause.message);
    cause = cause.cause;
  }
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`;
}

/**
 * Turns what a command threw into its end: a failure of the table, a cancellation, or a bug.
 *
 * 0 success, 1 bug, 2 usage, 20 to 99 from the table, 130 cancelled.
 *
 * @see docs/reference/errors.md
 */
export function endingOf(thrown: unknown, cancelled: boolean): Ending {
  if (cancelled && !isFailure(thrown, 'freeze-lost')) {
    return {
      exitStatus: EXIT_CANCELLED,
      text: 'cancelled',
      json: { code: 'cancelled', exit: EXIT_CANCELLED },
    };
  }
  if (thrown instanceof IngotError) {
    const failure = FAILURES[thrown.code];
    return {
      exitStatus: failure.exit,
      text: `${thrown.message}${causes(thrown)} [${thrown.code}]`,
      json: {
        code: thrown.code,
        message: thrown.message,
        facts: thrown.facts,
        retry: failure.retry,
        exit: failure.exit,
      },
    };
  }
  const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return {
    exitStatus: EXIT_BUG,
    text: `a bug in ingot: ${text}`,
    json: { code: 'bug', message: text, exit: EXIT_BUG },
  };
}
