import { type FailureCode, isFailure } from '../../base/index.ts';
import { handoverSchema } from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';

/**
 * Leaves open descriptors with a daemon of this machine; the caller keeps its own.
 *
 * @returns the key under which the daemon has them, or undefined where it does not take them
 */
export async function handOver(
  client: DaemonClient,
  descriptors: readonly number[],
): Promise<string | undefined> {
  if (!isThisMachine(client.url)) return undefined;
  const offer = await unlessRefused(
    client.json(handoverSchema, { method: 'POST', path: '/handovers' }),
    ['not-allowed', 'too-many-requests', 'request-invalid'],
  );
  if (offer === undefined) return undefined;
  const { sendDescriptors } = await import('../../keep/adapters/descriptor-socket.ts');
  return sendDescriptors(offer.socket, offer.key, descriptors) ? offer.key : undefined;
}

/** @returns undefined for refusals after which it is done in another way */
export async function unlessRefused<T>(
  answer: Promise<T>,
  refusals: readonly FailureCode[],
): Promise<T | undefined> {
  try {
    return await answer;
  } catch (thrown) {
    if (refusals.some((code) => isFailure(thrown, code))) return undefined;
    throw thrown;
  }
}

/** Only there can a descriptor be handed over; through a tunnel it is refused, and nothing is lost. */
export function isThisMachine(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname);
}
