import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { type Clock, IngotError } from '../../base/index.ts';
import { STALL_MS, stallGuard } from './stall-guard.ts';

/**
 * Passes a body on while it counts, so that neither a long nor a silent sender holds the daemon.
 *
 * @param body as it comes from the socket
 * @throws IngotError `request-too-large` above `maxBytes`, `request-invalid` when nothing came for
 *   two minutes or the sender went away before the end
 */
export async function* limitedBody(
  body: Readable,
  { maxBytes, clock }: { readonly maxBytes: number; readonly clock: Clock },
): AsyncGenerator<Buffer, void, undefined> {
  let count = 0;
  using stall = stallGuard(clock, () => {
    body.destroy(new IngotError('request-invalid', `the body gave nothing for ${STALL_MS} ms`));
  });
  stall.start();
  try {
    // The socket must outlive a refused body: the answer still has to go out.
    for await (const piece of body.iterator({ destroyOnReturn: false })) {
      stall.stop();
      const bytes = piece as Buffer;
      count += bytes.byteLength;
      if (count > maxBytes) {
        throw new IngotError('request-too-large', `the body is above ${maxBytes} bytes`);
      }
      yield bytes;
      stall.start();
    }
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    throw new IngotError(
      'request-invalid',
      `the body broke off after ${count} bytes`,
      {},
      { cause },
    );
  }
}

/**
 * Reads a whole body of known limit into one buffer.
 *
 * @throws IngotError as {@link limitedBody} does
 */
export async function readBody(
  body: Readable,
  limits: { readonly maxBytes: number; readonly clock: Clock },
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of limitedBody(body, limits)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/**
 * The body as the stream that the parser of binary bodies left it.
 *
 * @throws IngotError `request-invalid`
 */
export function streamOf(request: FastifyRequest): Readable {
  const body: unknown = request.body;
  if (body !== null && typeof body === 'object' && 'iterator' in body) return body as Readable;
  throw new IngotError('request-invalid', 'the request has no binary body');
}
