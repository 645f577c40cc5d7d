import { z } from 'zod';
import { type Id, IngotError, isId, isoTime, parseDigest, parseIsoTime } from '../../base/index.ts';
import type { Image } from '../../keep/index.ts';
import { captureSchema } from './ingest-wire.ts';

/** An image as the native API shows it. */
export const imageSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    description: z.string(),
    owner: z.string(),
    type: z.enum(['upload', 'snapshot']),
    status: z.enum(['creating', 'available', 'deprecated', 'deleting', 'deleted', 'failed']),
    public: z.boolean(),
    official: z.boolean(),
    locked: z.boolean(),
    arch: z.string(),
    ancestor_id: z.string().nullable(),
    compatibility_mode: z.boolean(),
    created_at: z.iso.datetime(),
    virtual_size_bytes: z.number().int(),
    gzip_size_bytes: z.number().int(),
    added_bytes: z.number().int(),
    plain_sha256: z.string().nullable(),
    failure: z.string().nullable().describe('Why it is `failed`.'),
    capture: captureSchema.extend({ filesystem: z.string().nullable(), source: z.string() }),
  })
  .meta({ id: 'Image', description: 'An entry of the image library.' });

/** An image on the wire. */
export type WireImage = z.infer<typeof imageSchema>;

/** Maps an image to its wire form. */
export function imageToWire(image: Image): WireImage {
  return {
    id: image.id,
    name: image.name,
    description: image.description,
    owner: image.ownerId,
    type: image.kind,
    status: image.status,
    public: image.isPublic,
    official: image.isOfficial,
    locked: image.isLocked,
    arch: image.arch,
    ancestor_id: image.ancestorId ?? null,
    compatibility_mode: image.compatibilityMode,
    created_at: isoTime(image.createdAt),
    virtual_size_bytes: image.virtualSizeBytes,
    gzip_size_bytes: image.gzipSizeBytes,
    added_bytes: image.addedBytes,
    plain_sha256: image.plainDigest ?? null,
    failure: image.failure ?? null,
    capture: {
      consistency: image.capture.consistency,
      freeze_ms: image.capture.freezeMs,
      filesystem: image.capture.filesystem ?? null,
      source: image.capture.source,
      free_space: image.capture.freeSpace,
    },
  };
}

/**
 * Maps the wire form back to an image, in a client.
 *
 * @throws IngotError `daemon-protocol` when an id has no form of one
 */
export function imageFromWire(wire: WireImage): Image {
  const { id, owner } = wire;
  if (!isId('img', id) || !isId('acc', owner)) {
    throw new IngotError('daemon-protocol', `the daemon named an image ${id} of ${owner}`);
  }
  return {
    id,
    ownerId: owner,
    name: wire.name,
    description: wire.description,
    kind: wire.type,
    status: wire.status,
    isPublic: wire.public,
    isOfficial: wire.official,
    isLocked: wire.locked,
    arch: wire.arch,
    ancestorId: ancestorFromWire(wire.ancestor_id),
    compatibilityMode: wire.compatibility_mode,
    createdAt: parseIsoTime(wire.created_at),
    virtualSizeBytes: wire.virtual_size_bytes,
    gzipSizeBytes: wire.gzip_size_bytes,
    addedBytes: wire.added_bytes,
    plainDigest: wire.plain_sha256 === null ? undefined : parseDigest(wire.plain_sha256),
    ...(wire.failure === null ? {} : { failure: wire.failure }),
    capture: {
      consistency: wire.capture.consistency,
      freezeMs: wire.capture.freeze_ms,
      filesystem: wire.capture.filesystem ?? undefined,
      source: wire.capture.source,
      freeSpace: wire.capture.free_space,
    },
  };
}

function ancestorFromWire(text: string | null): Id<'img'> | undefined {
  return text !== null && isId('img', text) ? text : undefined;
}
