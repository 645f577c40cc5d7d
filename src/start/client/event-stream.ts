import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { IngotError } from '../../base/index.ts';

const MAX_EVENT_CHARACTERS = 1024 * 1024;

/**
 * Reads server-sent events whose data is JSON of one shape.
 *
 * @param answer destroyed at the end
 * @throws IngotError `daemon-protocol`; Error when the connection breaks off
 */
export async function* readEvents<T>(
  answer: IncomingMessage,
  shape: z.ZodType<T>,
): AsyncGenerator<T, void, undefined> {
  try {
    let text = '';
    for await (const piece of answer) {
      text += (piece as Buffer).toString('utf8');
      if (text.length > MAX_EVENT_CHARACTERS) {
        throw new IngotError('daemon-protocol', 'an event of the daemon is too long');
      }
      const parts = text.split('\n\n');
      text = parts.pop() ?? '';
      for (const part of parts) yield eventOf(part, shape);
    }
  } finally {
    answer.destroy();
  }
}

function eventOf<T>(event: string, shape: z.ZodType<T>): T {
  const data = /^data: (.*)$/m.exec(event)?.[1];
  const parsed = shape.safeParse(data === undefined ? undefined : JSON.parse(data));
  if (parsed.success) return parsed.data;
  throw new IngotError('daemon-protocol', 'the daemon sent an event of another form');
}
