import assert from 'node:assert/strict';
import { systemClock } from '../../src/base/index.ts';
import type { WireImage, WireJob } from '../../src/serve/index.ts';

/** What an import answers. */
export interface WireImport {
  readonly image: WireImage;
  readonly upload: { readonly offset: number; readonly length: number | null } | null;
  readonly job: WireJob | null;
}

/** What a request has besides its path. */
interface UploadInit {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: NonNullable<RequestInit['body']>;
}

/** Speaks to a daemon's native API as any HTTP client would. */
export interface UploadClient {
  /** URL of the API. */
  readonly api: string;
  readonly token: string;
  /** @param path below the API */
  send(method: string, path: string, init?: UploadInit): Promise<Response>;
  /** Waits until nothing is made of the image any more. */
  settled(imageId: string): Promise<WireImage>;
}

/** Logs in. */
export async function uploadClient(
  env: Readonly<Record<string, string>>,
  url = env['INGOT_URL'] ?? '',
): Promise<UploadClient> {
  const api = `${url}/api/ingot/v1`;
  const basic = Buffer.from(`${env['INGOT_CLIENT']}:${env['INGOT_SECRET']}`).toString('base64');
  const answer = await fetch(`${api}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
  });
  assert.equal(answer.status, 200);
  const { access_token: token } = (await answer.json()) as { access_token: string };
  const send: UploadClient['send'] = (method, path, init = {}) =>
    fetch(`${api}${path}`, {
      ...init,
      method,
      headers: { authorization: `Bearer ${token}`, ...init.headers },
    });
  return {
    api,
    token,
    send,
    async settled(imageId) {
      for (const deadline = performance.now() + 120_000; performance.now() < deadline; ) {
        const shown = await send('GET', `/images/${imageId}`);
        assert.equal(shown.status, 200);
        const image = (await shown.json()) as WireImage;
        if (image.status !== 'creating') return image;
        await systemClock.sleep(20);
      }
      throw new Error(`${imageId} is still being made`);
    },
  };
}
