import { z } from 'zod';
import { IngotError, isId, parseDigest } from '../../base/index.ts';
import type { ImageDescription, IngestSummary } from '../../keep/index.ts';

/** Longest name of an image, in characters. */
const MAX_NAME_CHARACTERS = 255;
const MAX_DESCRIPTION_CHARACTERS = 4096;

/** Text for people on one line: no control characters, so that no list is broken by a name. */
export const line = (max: number): z.ZodString =>
  z
    .string()
    .max(max)
    .regex(/^[^\p{Cc}\u2028\u2029]*$/u, 'has control characters');

/** An image's name as a request may give it. */
export const imageName = line(MAX_NAME_CHARACTERS).min(1);
/** An image's description as a request may give it. */
export const imageDescription = z.string().max(MAX_DESCRIPTION_CHARACTERS);
/** A CPU architecture as a request may give it. */
export const imageArch = z.string().regex(/^[a-z0-9_]{1,32}$/, 'is no architecture');

const imageId = z.string().refine((text) => isId('img', text), { error: 'is no image id' });

/** What begins an ingest. */
export const beginSchema = z
  .strictObject({
    name: imageName,
    description: imageDescription.default(''),
    kind: z.enum(['upload', 'snapshot']).default('upload'),
    arch: imageArch.default('x86_64'),
    ancestor_id: imageId.nullable().default(null),
    compatibility_mode: z.boolean().default(false),
  })
  .meta({ id: 'BeginIngest', description: 'What the owner says of a new image.' });

/** Maps the request that begins an ingest to what the library is told. */
export function descriptionFromWire(wire: z.output<typeof beginSchema>): ImageDescription {
  const ancestor = wire.ancestor_id;
  return {
    name: wire.name,
    description: wire.description,
    kind: wire.kind,
    arch: wire.arch,
    ancestorId: ancestor !== null && isId('img', ancestor) ? ancestor : undefined,
    compatibilityMode: wire.compatibility_mode,
  };
}

/** Maps a description to the request that begins an ingest. */
export function descriptionToWire(description: ImageDescription): z.input<typeof beginSchema> {
  return {
    name: description.name,
    description: description.description,
    kind: description.kind,
    arch: description.arch,
    ancestor_id: description.ancestorId ?? null,
    compatibility_mode: description.compatibilityMode,
  };
}

/** What a capture says of itself, on the wire. */
export const captureSchema = z.strictObject({
  consistency: z.enum(['frozen', 'crash-consistent', 'none']),
  freeze_ms: z.number().nonnegative(),
  filesystem: line(64).nullable(),
  source: line(4096),
  free_space: z.enum(['zero', 'keep']),
});

const summarySchema = z.strictObject({
  size_bytes: z.number().int().nonnegative(),
  chunk_rule: line(64),
  capture: captureSchema,
  plain_sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
});

/** Maps a summary to its JSON on the wire. */
export function summaryToWire(summary: IngestSummary): z.infer<typeof summarySchema> {
  return {
    size_bytes: summary.sizeBytes,
    chunk_rule: summary.chunkRule,
    capture: {
      consistency: summary.capture.consistency,
      freeze_ms: summary.capture.freezeMs,
      filesystem: summary.capture.filesystem ?? null,
      source: summary.capture.source,
      free_space: summary.capture.freeSpace,
    },
    plain_sha256: summary.plainDigest ?? null,
  };
}

/**
 * Reads the JSON of a summary.
 *
 * @throws IngotError `request-invalid`
 */
export function summaryFromWire(json: string): IngestSummary {
  let content: unknown;
  try {
    content = JSON.parse(json);
  } catch (cause) {
    throw new IngotError('request-invalid', 'the summary is no JSON', {}, { cause });
  }
  const parsed = summarySchema.safeParse(content);
  if (!parsed.success) {
    throw new IngotError('request-invalid', `the summary: ${z.prettifyError(parsed.error)}`);
  }
  const { capture, plain_sha256: plain, ...rest } = parsed.data;
  return {
    sizeBytes: rest.size_bytes,
    chunkRule: rest.chunk_rule,
    capture: {
      consistency: capture.consistency,
      freezeMs: capture.freeze_ms,
      filesystem: capture.filesystem ?? undefined,
      source: capture.source,
      freeSpace: capture.free_space,
    },
    plainDigest: plain === null ? undefined : parseDigest(plain),
  };
}
