import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, IngotError } from '../../base/index.ts';
import { writePrivateFile } from './private-file.ts';

const SECRET_BYTES = 32;

/**
 * Reads the secret that signs tokens, or makes it on first start: 32 random bytes, mode 0600.
 *
 * @param keysDirectory `DATA/keys`
 * @throws IngotError `library-unusable` when the file is none of ours
 */
export async function tokenSecret(keysDirectory: string): Promise<Uint8Array> {
  const path = join(keysDirectory, 'token.key');
  return (await readSecret(path)) ?? (await makeSecret(path));
}

async function readSecret(path: string): Promise<Uint8Array | undefined> {
  try {
    const secret = await readFile(path);
    if (secret.byteLength === SECRET_BYTES) return secret;
    throw new IngotError('library-unusable', `${path} has ${secret.byteLength} bytes, not 32`, {
      path,
    });
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

async function makeSecret(path: string): Promise<Uint8Array> {
  const secret = randomBytes(SECRET_BYTES);
  await writePrivateFile(path, secret);
  return secret;
}
