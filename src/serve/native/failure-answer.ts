import type { FastifyError } from 'fastify';
import { z } from 'zod';
import { FAILURES, type FailureCode, type FailureFacts, IngotError } from '../../base/index.ts';

/** The body of every answer that is no success. */
export const failureSchema = z
  .object({
    error: z.object({
      code: z.string().describe('A code of docs/reference/errors.md, or `bug`.'),
      message: z.string(),
      facts: z.record(z.string(), z.union([z.string(), z.number()])),
      retry: z.enum(['never', 'after-fix', 'later']),
    }),
  })
  .meta({ id: 'Failure', description: 'Why a request was not done.' });

/** A failure on the wire. */
export type WireFailure = z.infer<typeof failureSchema>;

/** An answer that is no success: its status and body. */
export interface FailureAnswer {
  readonly status: number;
  readonly body: WireFailure;
  /** Whether it is a bug, which belongs into the log with its stack. */
  readonly isBug: boolean;
}

function answer(
  code: FailureCode,
  message: string,
  facts: FailureFacts = {},
  status: number = FAILURES[code].http,
): FailureAnswer {
  const body = { error: { code, message, facts: { ...facts }, retry: FAILURES[code].retry } };
  return { status, body, isBug: false };
}

/** Turns what a handler threw into an answer. What is not in the table tells nothing of itself. */
export function failureAnswer(thrown: unknown): FailureAnswer {
  if (thrown instanceof IngotError) return answer(thrown.code, thrown.message, thrown.facts);
  if (isFastifyError(thrown)) {
    if (thrown.statusCode === 413) return answer('request-too-large', thrown.message.toLowerCase());
    const status = thrown.statusCode ?? 500;
    if (status >= 400 && status < 500) {
      return answer('request-invalid', thrown.message, {}, status);
    }
  }
  return {
    status: 500,
    body: {
      error: { code: 'bug', message: 'an error inside the daemon', facts: {}, retry: 'later' },
    },
    isBug: true,
  };
}

/** The answer to a path that leads nowhere. */
export function nothingHere(method: string, path: string): FailureAnswer {
  return answer('request-invalid', `nothing is at ${method} ${path}`, {}, 404);
}

function isFastifyError(thrown: unknown): thrown is FastifyError {
  return thrown instanceof Error && 'statusCode' in thrown && typeof thrown.statusCode === 'number';
}
