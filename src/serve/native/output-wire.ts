import { z } from 'zod';
import { failureSchema } from './failure-answer.ts';
import { line } from './ingest-wire.ts';

const bytes = z.number().int().nonnegative();

/** Which bytes of a gzip member are written, and where. */
export const outputOrderSchema = z
  .strictObject({
    handover: z
      .strictObject({ key: z.string().max(128), name: line(4096) })
      .describe('The open file that was left at an offer of POST /handovers, and its name.'),
    etag: z.string().max(128).describe('Validator of the member, without quotes.'),
    start_byte: bytes.describe('The first byte of the member that is written.'),
    end_byte: bytes.describe('One after the last.'),
    offset_bytes: bytes.describe('Where the first one goes in the file.'),
  })
  .meta({ id: 'OutputOrder', description: 'What the daemon is to write into a file.' });

/** An order on the wire. */
export type WireOutputOrder = z.output<typeof outputOrderSchema>;

/** How far the writing has come. */
export const outputEventSchema = z
  .object({
    state: z.enum(['running', 'done', 'failed']),
    done_bytes: bytes,
    failure: failureSchema.shape.error.nullable(),
  })
  .meta({ id: 'OutputEvent', description: 'Sent as server-sent events, the end as the last one.' });

/** An event on the wire. */
export type WireOutputEvent = z.infer<typeof outputEventSchema>;
