import { z } from 'zod';
import { IngotError, isFailureCode } from '../../../base/index.ts';
import type { WireJob } from '../../../serve/index.ts';

/**
 * Gives the report of a job that is done.
 *
 * @throws IngotError the job's own failure; `job-not-found` when it was cancelled
 */
export function reportOf(job: WireJob): Readonly<Record<string, unknown>> {
  if (job.state === 'done') return (job.report ?? {}) as Readonly<Record<string, unknown>>;
  if (job.state === 'cancelled') {
    throw new IngotError('job-not-found', `${job.id} was cancelled`, { job: job.id });
  }
  const failure = failureSchema.safeParse(jsonOrUndefined(job.failure ?? ''));
  const { code, message } = failure.data ?? {
    code: '',
    message: job.failure ?? 'without a reason',
  };
  throw new IngotError(
    isFailureCode(code) ? code : 'library-unusable',
    `${job.id} failed: ${message}`,
    { job: job.id },
  );
}

const failureSchema = z.object({ code: z.string(), message: z.string() });

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Words of an older daemon are shown as they are.
    return undefined;
  }
}

/**
 * Says what a verify found.
 *
 * @throws IngotError `verify-failed` when there is damage
 */
export function verifyWords(job: WireJob): string {
  const report = reportOf(job);
  const numbers = `${Number(report['checkedChunks'])} chunks, ${Number(report['checkedBytes'])} bytes read back`;
  if (report['isClean'] === true) return `No damage: ${numbers}.`;
  const lists = ['damagedImages', 'corruptChunks', 'corruptPacks', 'damage'].map((name) => {
    const list = report[name];
    return Array.isArray(list) && list.length > 0 ? `${name}: ${list.slice(0, 20).join(' ')}` : '';
  });
  throw new IngotError(
    'verify-failed',
    `${numbers}; ${lists.filter((text) => text !== '').join('; ')}`,
    { job: job.id },
  );
}
