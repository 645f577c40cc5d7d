import type { DirectoryLibrary, Schedules } from '../../keep/index.ts';
import type { NativeUpkeep } from '../../serve/index.ts';

/** The upkeep of a library, as the native API asks for it. The first account runs the daemon. */
export function libraryUpkeep(
  library: DirectoryLibrary,
  schedules: Pick<Schedules, 'list'>,
): NativeUpkeep {
  return {
    jobs: library.jobs,
    isOperator: async ({ accountId }) => (await library.accounts.accounts())[0]?.id === accountId,
    stats: () => library.stats(),
    schedules: () => schedules.list(),
    verify: (one) =>
      one === undefined
        ? library.jobs.add('verify', '')
        : library.jobs.add('verify', one.imageId, one.accountId),
    collect: (isForced) => library.queueCollection(isForced),
    backup: () => library.jobs.add('backup', ''),
  };
}
