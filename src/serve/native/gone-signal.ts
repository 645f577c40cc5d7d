import type { ServerResponse } from 'node:http';
import { IngotError } from '../../base/index.ts';

/**
 * Gives a signal that aborts when the receiver of an answer went away.
 *
 * It hangs on the answer and not on the connection, which outlives it and may carry many.
 * The reason is a failure `target-closed`, so that leaving early is no bug in the log.
 */
export function goneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort(new IngotError('target-closed', 'the receiver went away'));
  });
  return gone.signal;
}
