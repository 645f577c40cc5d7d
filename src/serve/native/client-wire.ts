import { z } from 'zod';
import { isoTime } from '../../base/index.ts';
import type { ApiClient } from '../../keep/index.ts';

const fields = {
  id: z.string(),
  name: z.string(),
  account_id: z.string(),
  created_at: z.iso.datetime(),
};

/** An API client as the native API shows it: without its secret. */
export const clientSchema = z
  .object(fields)
  .meta({ id: 'Client', description: 'What acts for an account: a program or a person.' });

/** All API clients of an account. */
export const clientListSchema = z
  .object({ clients: z.array(clientSchema) })
  .meta({ id: 'ClientList' });

/** A new API client, with the secret that nobody can be shown again. */
export const newClientSchema = z
  .object({ ...fields, secret: z.string().describe('Shown this once; only its digest is kept.') })
  .meta({ id: 'NewClient' });

/** An API client on the wire. */
export type WireClient = z.infer<typeof clientSchema>;

/** Maps an API client to its wire form. */
export function clientToWire(client: ApiClient): WireClient {
  return {
    id: client.id,
    name: client.name,
    account_id: client.accountId,
    created_at: isoTime(client.createdAt),
  };
}
