import { resolve } from 'node:path';
import { systemClock } from '../../../base/index.ts';
import { readDaemonSettings } from '../../settings/daemon-settings.ts';
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
