import type { Id } from '../../base/index.ts';
import type { LibraryContext } from './library-context.ts';

const PAGE = 1000;

/** Says what is gone and what can come back, when the state is empty and the library is not. */
export async function warnOfLostState(context: LibraryContext): Promise<void> {
  const { catalogue, manifests, disk, log } = context;
  if ((await catalogue.accounts()).length > 0) return;
  const { roots } = await manifests.list();
  if (roots.length === 0) return;
  const known = await catalogue.images({
    accountId: undefined,
    statuses: ['available', 'deprecated'],
    afterId: '',
    limit: 1,
  });
  const backups = (await disk.list('.')).includes('backups') ? await disk.list('backups') : [];
  log.error('state.db is lost: accounts, API clients and jobs are gone', {
    images: roots.length,
    isRebuilt: known.length > 0,
    newestBackup: backups.filter((name) => name.endsWith('.db')).at(-1) ?? 'none',
    help: 'stop the daemon; put a copy from backups/ in the place of state.db; then, or without one, ingot library rebuild: it brings the images and their owners back, not the API clients',
  });
}

/**
 * Makes the accounts again that own images and are not known, so that somebody can see those.
 *
 * Their names are lost. The owner of the oldest image comes first, and is the operator.
 */
export async function adoptOwners({ catalogue, log }: LibraryContext): Promise<void> {
  const known = new Set((await catalogue.accounts()).map(({ id }) => id));
  const owners = new Map<Id<'acc'>, number>();
  for (let afterId = ''; ; ) {
    const rows = await catalogue.images({
      accountId: undefined,
      statuses: ['available', 'deprecated'],
      afterId,
      limit: PAGE,
    });
    for (const { ownerId, createdAt } of rows) {
      owners.set(ownerId, Math.min(owners.get(ownerId) ?? createdAt, createdAt));
    }
    const last = rows.at(-1);
    if (last === undefined) break;
    afterId = last.id;
  }
  for (const [id, createdAt] of owners) {
    if (known.has(id)) continue;
    await catalogue.addAccount({ id, name: 'recovered', createdAt });
    log.warn('an account is made again for the images that it owns', { account: id });
  }
}
