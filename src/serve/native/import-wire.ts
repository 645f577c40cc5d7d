import { z } from 'zod';
import { isoTime, parseDigest } from '../../base/index.ts';
import { DISK_FORMATS } from '../../bytes/index.ts';
import type { ImportRequest, UploadState } from '../../keep/index.ts';
import { imageSchema, imageToWire } from './image-wire.ts';
import { beginSchema, descriptionFromWire, line } from './ingest-wire.ts';
import { jobSchema, jobToWire } from './job-wire.ts';

const sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'is no SHA-256 in 64 lower-case hex digits')
  .describe('SHA-256 of the bytes as they are sent.');
const format = z.enum(DISK_FORMATS).describe('By its first bytes when it is not given.');
const freeSpace = z.enum(['keep', 'zero']).default('keep').describe('What free blocks become.');
const about = beginSchema.shape;

/** What is said of a new image whose bytes are to come. */
export const createImportSchema = z
  .strictObject({
    name: about.name,
    description: about.description,
    arch: about.arch,
    ancestor_id: about.ancestor_id,
    compatibility_mode: about.compatibility_mode,
    size_bytes: z
      .number()
      .int()
      .positive()
      .optional()
      .describe('Size of the bytes as they are sent, where it is known.'),
    sha256: sha256.optional(),
    format: format.optional(),
    free_space: freeSpace,
    url: z
      .string()
      .max(2048)
      .optional()
      .describe('An http or https URL that the daemon fetches; without it, bytes are awaited.'),
    handover: z
      .strictObject({ key: z.string().max(128), name: line(4096) })
      .optional()
      .describe('An open file that was left at an offer of POST /handovers, and its name.'),
  })
  .meta({ id: 'CreateImport', description: 'What the owner says of an image to be made.' });

/** Where a process of the daemon's machine leaves an open file. */
export const handoverSchema = z
  .object({
    socket: z.string().describe('Abstract name of a Unix datagram socket.'),
    key: z.string().describe('What the message says, and the import then names.'),
  })
  .meta({ id: 'Handover', description: 'An offer to take an open file, for half a minute.' });

/** The same in a query, for a request whose body is the image. */
export const uploadQuery = z.strictObject({
  name: about.name.optional().describe('Needed.'),
  description: about.description,
  arch: about.arch,
  sha256: sha256.optional(),
  format: format.optional(),
  free_space: freeSpace,
});

/** An image that is being made. */
export const importSchema = z
  .object({
    image: imageSchema,
    upload: z
      .object({
        offset: z.number().int().describe('Bytes that have arrived: go on there.'),
        length: z.number().int().nullable(),
        expires_at: z.iso.datetime().describe('When it is given up if nothing more comes.'),
      })
      .nullable()
      .describe('Null once all has arrived.'),
    job: jobSchema.nullable().describe('What makes the image, once all has arrived.'),
  })
  .meta({ id: 'Import', description: 'An image on its way into the library.' });

/** Maps what the owner says to what the library is told. */
export function importFromWire(wire: z.output<typeof createImportSchema>): ImportRequest {
  return {
    description: descriptionFromWire({ ...wire, kind: 'upload' }),
    sha256: wire.sha256 === undefined ? undefined : parseDigest(wire.sha256),
    sizeBytes: wire.size_bytes,
    format: wire.format,
    freeSpace: wire.free_space,
    url: wire.url,
    handover: wire.handover,
  };
}

/** Maps the state of an import to its wire form. */
export function importToWire(state: UploadState): z.infer<typeof importSchema> {
  const { job, image } = state;
  const upload = {
    offset: state.offsetBytes,
    length: state.sizeBytes ?? null,
    expires_at: isoTime(state.expiresAt),
  };
  return {
    image: imageToWire(image),
    upload: state.isReceiving ? upload : null,
    job: job === undefined ? null : jobToWire(job),
  };
}
