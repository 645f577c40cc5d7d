import { type Id, IngotError, isId } from '../../../base/index.ts';
import { DaemonClient } from '../../client/daemon-client.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';

/** Options of every command that speaks to a daemon. */
export interface DaemonOptions {
  readonly profile?: string | undefined;
}

/**
 * Opens a client of the daemon that the user has chosen.
 *
 * @throws IngotError `profile-missing`, `settings-invalid`
 */
export function openClient(context: CliContext, options: DaemonOptions): DaemonClient {
  return new DaemonClient(chooseProfile(context.env, options.profile), context.signal);
}

/**
 * Reads an image's id from the command line.
 *
 * @throws IngotError `image-not-found`: what has no form of an id names no image
 */
export function imageIdOf(text: string): Id<'img'> {
  if (isId('img', text)) return text;
  throw new IngotError('image-not-found', `${text} is no image id; they look like img-h3nbk`);
}
