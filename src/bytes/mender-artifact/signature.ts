import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { IngotError } from '../../base/index.ts';

const P256 = 'prime256v1';
/** r and s of an ECDSA P-256 signature, 32 bytes each. */
const RAW_P256_BYTES = 64;

/** A key that is known to fit Mender: RSA, or ECDSA on P-256. */
export interface ArtifactKey {
  readonly kind: 'rsa' | 'ecdsa-p256';
  readonly key: KeyObject;
}

function kindOf(key: KeyObject, place: string): ArtifactKey {
  if (key.asymmetricKeyType === 'rsa') return { kind: 'rsa', key };
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === P256) {
    return { kind: 'ecdsa-p256', key };
  }
  const curve = key.asymmetricKeyDetails?.namedCurve;
  const found = curve === undefined ? key.asymmetricKeyType : `${key.asymmetricKeyType} ${curve}`;
  throw new IngotError(
    'key-unusable',
    `${place} is a key of type ${found ?? 'unknown'}; Mender takes RSA and ECDSA P-256`,
    { place },
  );
}

/** Leaves out `EC PARAMETERS`, which `openssl ecparam -genkey` writes before the key. */
function keyBlock(pem: string): string {
  return pem.replaceAll(/-----BEGIN EC PARAMETERS-----[\s\S]*?-----END EC PARAMETERS-----\s*/g, '');
}

/**
 * Reads a private key in PEM form: PKCS#1, SEC1 or PKCS#8.
 *
 * @param place name of the file, for messages; the key itself is never in one
 * @throws IngotError `key-unusable`
 */
export function readSigningKey(pem: string, place: string): ArtifactKey {
  try {
    return kindOf(createPrivateKey(keyBlock(pem)), place);
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    throw new IngotError(
      'key-unusable',
      `${place} is no private key in PEM form`,
      { place },
      { cause },
    );
  }
}

/**
 * Reads a public key in PEM form; a private key stands for its public half.
 *
 * @throws IngotError `key-unusable`
 */
export function readVerificationKey(pem: string, place: string): ArtifactKey {
  try {
    return kindOf(createPublicKey(keyBlock(pem)), place);
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    throw new IngotError('key-unusable', `${place} is no key in PEM form`, { place }, { cause });
  }
}

/**
 * Signs a manifest.
 *
 * @returns the content of `manifest.sig`: base64 without a newline, of RSASSA-PKCS1-v1_5 with
 *   SHA-256, or of r and s with 32 bytes each
 * @see docs/formats/mender-artifact.md "manifest.sig"
 */
export function signManifest(manifest: Uint8Array, { kind, key }: ArtifactKey): Buffer {
  const signature =
    kind === 'rsa'
      ? sign('sha256', manifest, key)
      : sign('sha256', manifest, { key, dsaEncoding: 'ieee-p1363' });
  return Buffer.from(signature.toString('base64'), 'latin1');
}

/** @returns how many bytes `manifest.sig` has with this key, for a place that is kept for it */
export function signatureFileBytes({ kind, key }: ArtifactKey): number {
  const raw =
    kind === 'rsa' ? Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8) : RAW_P256_BYTES;
  return 4 * Math.ceil(raw / 3);
}

/**
 * Checks `manifest.sig` against the bytes of `manifest`.
 *
 * ECDSA signatures are taken as r and s, and in DER form as PKCS#11 makes them.
 *
 * @returns whether the signature is the key's
 */
export function isSignatureOf(
  { kind, key }: ArtifactKey,
  { manifest, signatureFile }: { readonly manifest: Uint8Array; readonly signatureFile: Buffer },
): boolean {
  const text = signatureFile.toString('latin1').replaceAll(/[\r\n]/g, '');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || text.length % 4 !== 0) return false;
  const signature = Buffer.from(text, 'base64');
  if (kind === 'rsa') return verify('sha256', manifest, key, signature);
  const dsaEncoding = signature.length === RAW_P256_BYTES ? 'ieee-p1363' : 'der';
  return verify('sha256', manifest, { key, dsaEncoding }, signature);
}

/** Reads an INTEGER of DER and gives it 32 bytes, or undefined where it is none. */
function integer32(der: Buffer, at: number): { bytes: Buffer; end: number } | undefined {
  const length = der[at + 1] ?? 0;
  const end = at + 2 + length;
  const digits = der.subarray(at + 2, end);
  const bytes = digits[0] === 0 ? digits.subarray(1) : digits;
  if (der[at] !== 0x02 || end > der.length || bytes.length > RAW_P256_BYTES / 2) return undefined;
  return { bytes: Buffer.concat([Buffer.alloc(RAW_P256_BYTES / 2 - bytes.length), bytes]), end };
}

/**
 * Makes `manifest.sig` of a signature that a device made: RSA as it is, ECDSA from DER to r and s,
 * which is what all readers take.
 *
 * @throws IngotError `signature-invalid` for ECDSA that is no DER of P-256
 */
export function signatureFileOf(kind: ArtifactKey['kind'], signature: Buffer): Buffer {
  if (kind === 'rsa') return Buffer.from(signature.toString('base64'), 'latin1');
  const r = signature[0] === 0x30 ? integer32(signature, 2) : undefined;
  const s = r === undefined ? undefined : integer32(signature, r.end);
  if (r === undefined || s === undefined || s.end !== signature.length) {
    throw new IngotError('signature-invalid', 'the signature is no ECDSA signature of P-256');
  }
  return Buffer.from(Buffer.concat([r.bytes, s.bytes]).toString('base64'), 'latin1');
}
