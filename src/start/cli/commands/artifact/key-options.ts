import { readFile } from 'node:fs/promises';
import { type Command, Option, type OptionValues } from '@commander-js/extra-typings';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import {
  type ArtifactKey,
  readSigningKey,
  readVerificationKey,
  signatureFileBytes,
  signManifest,
} from '../../../../bytes/index.ts';
import type { ArtifactSigner } from '../../../../publish/index.ts';
import { openTokenKey, openTokenSigner } from './pkcs11-key.ts';

/** A PEM file has a few KiB; more is something else. */
const MAX_KEY_FILE_BYTES = 256 * 1024;

/** Services that mender-artifact can sign with and ingot cannot. */
const CLOUD_KEYS = {
  'gcp-kms-key': 'Google Cloud KMS',
  'vault-transit-key': 'Hashicorp Vault',
  'keyfactor-signserver-worker': 'Keyfactor SignServer',
  'azure-key': 'Azure Key Vault',
} as const;

/** Where a key comes from, as the options say. */
export interface KeyOptions {
  readonly key?: string | undefined;
  /** URI of a key in a token. */
  readonly keyPkcs11?: string | undefined;
}

function refuseCloudKey(option: string, service: string): (value: string) => never {
  return () => {
    throw new IngotError(
      'key-unusable',
      `--${option}: ingot does not speak to ${service}; use a key file (-k) or a token (--key-pkcs11)`,
      { option },
    );
  };
}

/** Adds `-k` and the options of key services, which are named as not there. */
export function withKeyOptions<A extends unknown[], O extends OptionValues>(
  command: Command<A, O>,
  what: string,
) {
  for (const [option, service] of Object.entries(CLOUD_KEYS)) {
    command.addOption(
      new Option(`--${option} <name>`, `not there: ${service}`)
        .argParser(refuseCloudKey(option, service))
        .hideHelp(),
    );
  }
  return command
    .addOption(new Option('-k, --key <file>', what).conflicts('keyPkcs11'))
    .option('--key-pkcs11 <uri>', 'a key in a token instead: pkcs11:token=…;object=…');
}

async function readKeyFile(path: string): Promise<string> {
  try {
    const text = await readFile(path, 'latin1');
    if (text.length <= MAX_KEY_FILE_BYTES) return text;
  } catch (cause) {
    throw new IngotError(
      errnoOf(cause) === 'ENOENT' ? 'file-not-found' : 'key-unusable',
      `the key file ${path} cannot be read`,
      { path },
      { cause },
    );
  }
  throw new IngotError('key-unusable', `${path} is too large for a key file`, { path });
}

/** A signer with a key in memory. */
function keySigner(key: ArtifactKey): ArtifactSigner {
  return {
    signatureFileBytes: signatureFileBytes(key),
    sign: (manifest) => Promise.resolve(signManifest(manifest, key)),
  };
}

/**
 * Opens the signer that the options name.
 *
 * @returns undefined when none was asked for
 * @throws IngotError `key-unusable`, `file-not-found`
 */
export async function openSigner({
  key,
  keyPkcs11,
}: KeyOptions): Promise<ArtifactSigner | undefined> {
  if (keyPkcs11 !== undefined) return await openTokenSigner(keyPkcs11);
  return key === undefined ? undefined : keySigner(readSigningKey(await readKeyFile(key), key));
}

/**
 * Opens the key that a signature is checked with.
 *
 * @throws IngotError `key-unusable`, `file-not-found`
 */
export async function openVerificationKey({
  key,
  keyPkcs11,
}: KeyOptions): Promise<ArtifactKey | undefined> {
  if (keyPkcs11 !== undefined) return await openTokenKey(keyPkcs11);
  return key === undefined ? undefined : readVerificationKey(await readKeyFile(key), key);
}
