import * as z from 'zod';
import { type Digest, type Id, IngotError, isId, parseDigest } from '../../base/index.ts';
import type { ImageRow } from './catalogue.ts';

const DIGEST = z.string().refine((text): text is Digest => parseDigest(text) !== undefined);
const IMAGE_ID = z.string().refine((text): text is Id<'img'> => isId('img', text));
const ACCOUNT_ID = z.string().refine((text): text is Id<'acc'> => isId('acc', text));
const SIZE = z.number().int().min(0);

const RECORD = z.object({
  format: z.literal('ingot-image-record'),
  version: z.number(),
  imageId: IMAGE_ID,
  ownerId: ACCOUNT_ID,
  createdAt: SIZE,
  name: z.string(),
  description: z.string(),
  kind: z.enum(['upload', 'snapshot']),
  arch: z.string(),
  ancestorId: IMAGE_ID.nullable(),
  compatibilityMode: z.boolean(),
  status: z.enum(['available', 'deprecated', 'deleted', 'failed']),
  isPublic: z.boolean(),
  isOfficial: z.boolean(),
  isLocked: z.boolean(),
  virtualSizeBytes: SIZE,
  gzipSizeBytes: SIZE,
  addedBytes: SIZE,
  plainDigest: DIGEST.nullable(),
});

/** What stands beside a manifest: all that its signature does not cover (docs/formats/manifest.md). */
export type ImageRecord = z.infer<typeof RECORD>;

/** @returns the record's file */
export function formatImageRecord(row: ImageRow): Buffer {
  const { status } = row;
  const record: ImageRecord = {
    format: 'ingot-image-record',
    version: 1,
    imageId: row.id,
    ownerId: row.ownerId,
    createdAt: row.createdAt,
    name: row.name,
    description: row.description,
    kind: row.kind,
    arch: row.arch,
    ancestorId: row.ancestorId ?? null,
    compatibilityMode: row.compatibilityMode,
    status: status === 'creating' || status === 'deleting' ? 'deleted' : status,
    isPublic: row.isPublic,
    isOfficial: row.isOfficial,
    isLocked: row.isLocked,
    virtualSizeBytes: row.virtualSizeBytes,
    gzipSizeBytes: row.gzipSizeBytes,
    addedBytes: row.addedBytes,
    plainDigest: row.plainDigest ?? null,
  };
  return Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
}

/** @throws IngotError `manifest-invalid`, `version-unknown` */
export function parseImageRecord(bytes: Buffer, imageId: Id<'img'>): ImageRecord {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new IngotError('manifest-invalid', `the record of ${imageId} is no JSON`, {}, { cause });
  }
  const result = RECORD.safeParse(json);
  if (result.success && result.data.version !== 1) {
    throw new IngotError(
      'version-unknown',
      `the record of ${imageId} has version ${result.data.version}; this program knows version 1`,
    );
  }
  if (!result.success || result.data.imageId !== imageId) {
    throw new IngotError('manifest-invalid', `the record of ${imageId} is damaged`, { imageId });
  }
  return result.data;
}
