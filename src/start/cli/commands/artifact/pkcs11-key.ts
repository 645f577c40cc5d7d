import { spawn } from 'node:child_process';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import {
  type ArtifactKey,
  readVerificationKey,
  signatureFileBytes,
  signatureFileOf,
} from '../../../../bytes/index.ts';
import type { ArtifactSigner } from '../../../../publish/index.ts';

/** Somebody may have to press a button or type a PIN. */
const TIMEOUT_MS = 5 * 60 * 1000;
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * Runs openssl with the key of a token.
 *
 * @throws IngotError `tool-missing`, `key-unusable`
 */
async function openssl(args: readonly string[], input: Buffer): Promise<Buffer> {
  const child = spawn('openssl', args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer: Buffer[] = [];
  let words = '';
  child.stdout.on('data', (piece: Buffer) => answer.push(piece));
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    if (words.length < MAX_ANSWER_BYTES) words += piece;
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const status = await new Promise<number>((resolve, reject) => {
    child.on('close', (code) => resolve(code ?? -1));
    child.on('error', (cause) => {
      const isMissing = errnoOf(cause) === 'ENOENT';
      const what = isMissing ? 'openssl is not installed' : 'openssl did not end in time';
      reject(new IngotError(isMissing ? 'tool-missing' : 'key-unusable', what, {}, { cause }));
    });
  });
  if (status === 0) return Buffer.concat(answer);
  // Its own words can hold the URI, and with it a PIN.
  const last = words
    .trim()
    .split('\n')
    .at(-1)
    ?.replaceAll(/pin-value=[^;&\s]*/g, 'pin-value=…');
  throw new IngotError(
    'key-unusable',
    `openssl cannot use the key of the token: ${last ?? `it ended with ${status}`}`,
    { status },
  );
}

/**
 * Opens the public half of a key in a token.
 *
 * @param uri RFC 7512: `pkcs11:token=…;object=…`
 * @throws IngotError `key-unusable`, `tool-missing`
 */
export async function openTokenKey(uri: string): Promise<ArtifactKey> {
  const engine = ['-engine', 'pkcs11', '-inform', 'engine'];
  const pem = await openssl(['pkey', ...engine, '-in', uri, '-pubout'], Buffer.alloc(0));
  return readVerificationKey(pem.toString('latin1'), 'the key of the token');
}

/**
 * Signs with a key in a token, through openssl's engine pkcs11.
 *
 * @throws IngotError `key-unusable`, `tool-missing`
 */
export async function openTokenSigner(uri: string): Promise<ArtifactSigner> {
  const key = await openTokenKey(uri);
  const args = ['dgst', '-sha256', '-engine', 'pkcs11', '-keyform', 'engine', '-sign', uri];
  return {
    signatureFileBytes: signatureFileBytes(key),
    sign: async (manifest) => signatureFileOf(key.kind, await openssl(args, manifest)),
  };
}
