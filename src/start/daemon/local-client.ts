import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf, type Id, IngotError, isId } from '../../base/index.ts';
import type { DirectoryLibrary } from '../../keep/index.ts';
import { writePrivateFile } from './private-file.ts';

type Accounts = DirectoryLibrary['accounts'];

const clientFileSchema = z.strictObject({
  client: z.custom<Id<'cli'>>((id) => typeof id === 'string' && isId('cli', id)),
  secret: z.string().min(32),
});

/** The API client of the daemon's own user. */
export type LocalClient = z.infer<typeof clientFileSchema>;

/**
 * Gives the API client by which the daemon's own user reaches it: made with the first account on
 * first start, kept in `DATA/keys/local-client.json` with mode 0600, made anew when the catalogue
 * does not know it any more.
 */
export async function localClient(keysDirectory: string, accounts: Accounts): Promise<LocalClient> {
  const path = join(keysDirectory, 'local-client.json');
  const kept = await readClient(path);
  const account = (await accounts.accounts())[0] ?? (await accounts.addAccount('default'));
  // After a rebuild, the first account may be another one than the client's.
  const known = kept && (await accounts.authenticate(kept.client, kept.secret));
  if (kept !== undefined && known?.accountId === account.id) return kept;
  const { client, secret } = await accounts.addClient(account, 'local');
  const made = { client: client.id, secret };
  await writePrivateFile(path, Buffer.from(`${JSON.stringify(made)}\n`));
  return made;
}

async function readClient(path: string): Promise<LocalClient | undefined> {
  try {
    return clientFileSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw new IngotError('library-unusable', `${path} is damaged; remove it`, { path }, { cause });
  }
}
