import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Clock, errnoOf, type Id, IngotError, isId, newId } from '../../base/index.ts';
import type { Catalogue } from '../../keep/index.ts';
import type { NativeClients } from '../../serve/index.ts';
import { writePrivateFile } from './private-file.ts';

type Accounts = Pick<
  Catalogue,
  'accounts' | 'addAccount' | 'addClient' | 'client' | 'updateClient'
>;

const clientFileSchema = z.strictObject({
  client: z.custom<Id<'cli'>>((id) => typeof id === 'string' && isId('cli', id)),
  secret: z.string().min(32),
});

/** The API client of the daemon's own user. */
export type LocalClient = z.infer<typeof clientFileSchema>;

/**
 * Gives the API client by which the daemon's own user reaches it: made with the first account on
 * first start, kept in `DATA/keys/local-client.json` with mode 0600, good again after the state was
 * lost or brought back from a backup.
 */
export async function localClient(
  keysDirectory: string,
  accounts: Accounts,
  clock: Clock,
): Promise<LocalClient> {
  const path = join(keysDirectory, 'local-client.json');
  const kept = await readClient(path);
  if (kept !== undefined && (await proves(accounts, kept.client, kept.secret))) return kept;
  const secret = randomBytes(32).toString('base64url');
  const accountId = (await accounts.accounts())[0]?.id ?? (await addAccount(accounts, clock));
  for (;;) {
    const id = newId('cli');
    const isNew = await accounts.addClient({
      id,
      accountId,
      name: 'the local user',
      secretHash: hashOf(secret),
      createdAt: clock.now(),
      isRevoked: false,
    });
    if (!isNew) continue;
    const made = { client: id, secret };
    await writePrivateFile(path, Buffer.from(`${JSON.stringify(made)}\n`));
    return made;
  }
}

/** The API clients of the catalogue, as the native API asks for them. */
export function catalogueClients(accounts: Accounts): NativeClients {
  return {
    authenticate: async (clientId, secret) => {
      const found = isId('cli', clientId) ? await accounts.client(clientId) : undefined;
      // An unknown id takes as long as a wrong secret.
      const expected = found?.secretHash ?? hashOf('nobody');
      const isRight = isSame(hashOf(secret), expected);
      if (found === undefined || found.isRevoked || !isRight) return undefined;
      return { clientId: found.id, accountId: found.accountId };
    },
    isKnown: async ({ clientId }) => (await accounts.client(clientId))?.isRevoked === false,
  };
}

async function addAccount(accounts: Accounts, clock: Clock): Promise<Id<'acc'>> {
  for (;;) {
    const id = newId('acc');
    if (await accounts.addAccount({ id, name: 'local', createdAt: clock.now() })) return id;
  }
}

async function proves(accounts: Accounts, id: Id<'cli'>, secret: string): Promise<boolean> {
  const found = await accounts.client(id);
  return found !== undefined && !found.isRevoked && isSame(found.secretHash, hashOf(secret));
}

async function readClient(path: string): Promise<LocalClient | undefined> {
  try {
    return clientFileSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw new IngotError('library-unusable', `${path} is damaged; remove it`, { path }, { cause });
  }
}

/** Secrets are 256 random bits, so one hash is enough. */
function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function isSame(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
