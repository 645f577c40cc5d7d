import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
} from 'node:crypto';
import * as z from 'zod';
import { IngotError } from '../../base/index.ts';
import { publicKeyBytes } from '../../bytes/index.ts';
import { type Disk, readWhole, writeWhole } from '../chunks/disk.ts';

/** The file that makes a directory a library (docs/formats/chunk-store.md). */
const MARKER_FILE = 'ingot-library.json';
const KEY_FILE = 'keys/manifest-ed25519.pem';

const MARKER = z.object({
  format: z.literal('ingot-library'),
  version: z.number(),
  libraryId: z.string().min(1).max(64),
  publicKey: z.base64().length(44),
});

/** What a library signs with, and what its marker says. */
export interface LibraryKey {
  readonly libraryId: string;
  /** 32 bytes in base64. */
  readonly publicKey: string;
  readonly privateKey: KeyObject;
}

/**
 * Reads the marker and the key of a library.
 *
 * @returns undefined when the directory is no library
 * @throws IngotError `version-unknown`, `library-unusable`
 */
export async function readLibraryKey(disk: Disk): Promise<LibraryKey | undefined> {
  const bytes = await readWhole(disk, MARKER_FILE, 65_536);
  if (bytes === undefined) return undefined;
  const marker = parseMarker(bytes);
  if (marker.version !== 1) {
    throw new IngotError(
      'version-unknown',
      `the library has format version ${marker.version}; this program knows version 1`,
      { version: marker.version },
    );
  }
  const pem = await readWhole(disk, KEY_FILE, 65_536);
  if (pem === undefined) throw new IngotError('library-unusable', `${KEY_FILE} is missing`);
  const privateKey = createPrivateKey(pem);
  if (publicKeyBytes(createPublicKey(privateKey)).toString('base64') !== marker.publicKey) {
    throw new IngotError('library-unusable', `${KEY_FILE} is not the key that the marker names`);
  }
  return { libraryId: marker.libraryId, publicKey: marker.publicKey, privateKey };
}

/** Makes a new key and, last of all, the marker: a directory with a marker is whole. */
export async function createLibraryKey(disk: Disk): Promise<LibraryKey> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  await disk.makeFolder('keys', 0o700);
  const pem = Buffer.from(String(privateKey.export({ format: 'pem', type: 'pkcs8' })));
  await writeWhole(disk, KEY_FILE, pem, { mode: 0o600 });
  const key = {
    libraryId: randomUUID(),
    publicKey: publicKeyBytes(publicKey).toString('base64'),
    privateKey,
  };
  await writeMarker(disk, key);
  return key;
}

/** Writes the file that says whose signatures stand in a directory. */
export async function writeMarker(
  disk: Disk,
  { libraryId, publicKey }: Pick<LibraryKey, 'libraryId' | 'publicKey'>,
): Promise<void> {
  const marker = { format: 'ingot-library', version: 1, libraryId, publicKey };
  await writeWhole(disk, MARKER_FILE, Buffer.from(`${JSON.stringify(marker, null, 2)}\n`));
}

function parseMarker(bytes: Buffer): z.infer<typeof MARKER> {
  try {
    return MARKER.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new IngotError('library-unusable', `${MARKER_FILE} is damaged`, {}, { cause });
  }
}
