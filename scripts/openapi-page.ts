import Fastify from 'fastify';
import packageFacts from '../package.json' with { type: 'json' };
import { silentLog, systemClock } from '../src/base/index.ts';
import { loadNativeApi, NATIVE_PREFIX } from '../src/serve/index.ts';

/** Makes docs/reference/openapi.json from the schemas of the native API's routes. */
export async function openapiPage(): Promise<string> {
  const server = Fastify();
  const nobody = new Proxy({}, { get: () => undefined });
  const nativeApi = await loadNativeApi();
  await server.register(nativeApi, {
    prefix: NATIVE_PREFIX,
    // No request is ever made: only the routes' schemas are read.
    backend: nobody as Parameters<typeof nativeApi>[1]['backend'],
    clock: systemClock,
    log: silentLog,
    metrics: {
      sentBytes: () => undefined,
      receivedBytes: () => undefined,
      answersInMemory: () => undefined,
    },
    tokenSecret: new Uint8Array(32),
    version: packageFacts.version,
    zstdVersion: '',
    publicUrl: undefined,
  });
  const answer = await server.inject(`${NATIVE_PREFIX}/openapi.json`);
  await server.close();
  return `${JSON.stringify(answer.json(), null, 2)}\n`;
}
