import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type Clock, type Id, isId, type Log } from '../../base/index.ts';
import type { Access } from './access.ts';
import type { NativeBackend } from './backend.ts';
import type { DOWNLOAD_BYTES } from './download-memory.ts';
import { failureSchema } from './failure-answer.ts';
import type { FileDigests } from './file-digests.ts';

/** The native API's own corner of the server, with its schemas. */
export type NativeServer = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** What every family of routes is given. */
export interface RouteContext {
  readonly backend: NativeBackend;
  readonly access: Access;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: NativeMetrics;
  readonly zstdVersion: string;
  /** Of published files that were read to their end. */
  readonly digests: FileDigests;
  /** Takes memory for a download of a form: no more than its length. */
  readonly takeMemory: (
    request: FastifyRequest,
    form: keyof typeof DOWNLOAD_BYTES,
  ) => (lengthBytes: number | undefined) => Disposable;
}

/** What the native API counts; `start/` hands in where it goes. */
export interface NativeMetrics {
  sentBytes(bytes: number): void;
  receivedBytes(bytes: number): void;
  /** How many answers with chunks are in memory now. */
  answersInMemory(count: number): void;
}

/** Path with the id of an image. */
export const imageParams = z.object({ id: idSchema('img') });
/** Path with the id of an ingest. */
export const ingestParams = z.object({ id: idSchema('ing') });

/** Path with the id of a job. */
export const jobParams = z.object({ id: idSchema('job') });

/** Path with the id of an API client. */
export const clientParams = z.object({ id: idSchema('cli') });

/** Answers that every closed route may give beside its own. */
export const FAILURE_ANSWERS = {
  '4xx': failureSchema,
  '5xx': failureSchema,
} as const;

/** An id of one kind in a path. */
function idSchema<P extends 'cli' | 'img' | 'ing' | 'job'>(prefix: P): z.ZodCustom<Id<P>, Id<P>> {
  return z.custom<Id<P>>((text) => typeof text === 'string' && isId(prefix, text), {
    error: `is no id of the form ${prefix}-xxxxx`,
  });
}
