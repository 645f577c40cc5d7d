import { z } from 'zod';
import { IngotError } from '../../base/index.ts';
import { FAILURE_ANSWERS, type NativeServer, type RouteContext } from './routes.ts';
import { TOKEN_SECONDS } from './tokens.ts';

const credentials = z
  .object({
    grant_type: z.literal('client_credentials').optional(),
    client_id: z.string().max(128).optional(),
    client_secret: z.string().max(512).optional(),
  })
  .nullish()
  .meta({ description: 'Client credentials here, or as HTTP Basic (RFC 6749 section 2.3.1).' });

const tokenSchema = z
  .object({
    access_token: z.string(),
    token_type: z.literal('Bearer'),
    expires_in: z.number().int().describe('Seconds.'),
  })
  .meta({ id: 'Token' });

/** `POST /token`: a client's secret becomes a short-lived token. */
export function tokenRoutes(server: NativeServer, { access }: RouteContext): void {
  server.post(
    '/token',
    {
      schema: {
        summary: 'Exchanges client credentials for a token',
        tags: ['access'],
        security: [],
        body: credentials,
        response: { 200: tokenSchema, ...FAILURE_ANSWERS },
      },
      bodyLimit: 8192,
    },
    async (request, reply) => {
      const basic = basicCredentials(request.headers.authorization);
      const id = basic?.id ?? request.body?.client_id;
      const secret = basic?.secret ?? request.body?.client_secret;
      if (id === undefined || secret === undefined) {
        throw new IngotError('request-invalid', 'client_id and client_secret are needed');
      }
      const token = await access.exchange(id, secret, request.ip);
      reply.header('cache-control', 'no-store');
      return { access_token: token, token_type: 'Bearer' as const, expires_in: TOKEN_SECONDS };
    },
  );
}

function basicCredentials(
  header: string | undefined,
): { readonly id: string; readonly secret: string } | undefined {
  const match = /^Basic ([A-Za-z0-9+/=]{1,1024})$/i.exec(header ?? '');
  if (match?.[1] === undefined) return undefined;
  const text = Buffer.from(match[1], 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : { id: text.slice(0, colon), secret: text.slice(colon + 1) };
}
