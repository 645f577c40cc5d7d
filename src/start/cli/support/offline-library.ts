import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { IngotError, systemClock } from '../../../base/index.ts';
import { readDaemonSettings } from '../../settings/daemon-settings.ts';
import { readProfiles } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';

/**
 * Opens the library of a data directory in this process, without a daemon.
 *
 * @param options `data`: the directory; by default where a daemon would look
 * @throws IngotError `library-busy` while a daemon has it, `library-unusable`
 */
export async function openOfflineLibrary(
  context: CliContext,
  options: { readonly data?: string | undefined; readonly isRebuild?: boolean },
) {
  const { dataDirectory } = readDaemonSettings({
    flags: options.data === undefined ? {} : { data: resolve(options.data) },
    env: context.env,
    configFile: undefined,
    isRoot: process.getuid?.() === 0,
  });
  refuseAbsentDirectory(context, dataDirectory);
  refuseForeignDirectory(dataDirectory);
  // Loaded late: commands that only speak to a daemon start without it.
  const { openDirectoryLibrary } = await import('../../daemon/open-library.ts');
  const { pinoLog, pinoLogger } = await import('../../daemon/pino-log.ts');
  return await openDirectoryLibrary(dataDirectory, {
    engine: 'auto',
    clock: systemClock,
    log: pinoLog(pinoLogger('warn', context.stderr)),
    isRebuild: options.isRebuild ?? false,
  });
}

/** Says where there is a library, if the user's profile tells. */
function refuseAbsentDirectory({ env }: CliContext, dataDirectory: string): void {
  if (statSync(dataDirectory, { throwIfNoEntry: false }) !== undefined) return;
  const known = Object.entries(readProfiles(env).profiles).flatMap(([name, { data }]) =>
    data === undefined ? [] : [`the daemon of profile ${name} has ${data}`],
  );
  const words = ['--data names another directory', ...known].join('; ');
  throw new IngotError('library-unusable', `there is no library in ${dataDirectory}: ${words}`, {
    dataDirectory,
  });
}

/** Files that root makes in the directory of a daemon's user would keep that daemon out. */
function refuseForeignDirectory(dataDirectory: string): void {
  const owner = statSync(dataDirectory, { throwIfNoEntry: false })?.uid;
  const own = process.geteuid?.();
  if (own !== 0 || owner === undefined || owner === own) return;
  throw new IngotError(
    'not-allowed',
    `${dataDirectory} belongs to user ${owner}: run it as that user, such as with sudo -u '#${owner}'`,
    { dataDirectory, owner },
  );
}
