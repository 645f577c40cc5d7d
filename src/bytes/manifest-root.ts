import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { type Digest, type Id, IngotError, isId, MIB, parseDigest } from '../base/index.ts';
import { MAX_PAGE_ENTRIES } from './manifest-page.ts';

/** A root as line of JSON and signature never takes more than this. */
export const MAX_ROOT_BYTES = 64 * MIB;
const MAX_PAGES = 400_000;
const VERSION = 1;
/** DER of an Ed25519 public key up to its 32 bytes (RFC 8410 section 4). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** What the capture told, as the manifest keeps it. */
export interface ManifestCapture {
  readonly consistency: 'frozen' | 'crash-consistent' | 'none';
  readonly freezeMs: number;
  readonly filesystem: string | undefined;
  readonly source: string;
  readonly freeSpace: 'zero' | 'keep';
}

/** One page as its root names it. */
export interface RootPage {
  readonly digest: Digest;
  readonly entries: number;
  readonly plainBytes: number;
}

/**
 * The signed part of an image's manifest.
 *
 * @see docs/formats/manifest.md
 */
export interface ManifestRoot {
  readonly libraryId: string;
  readonly imageId: Id<'img'>;
  readonly ownerId: Id<'acc'>;
  /** ms since 1970. */
  readonly createdAt: number;
  readonly virtualSizeBytes: number;
  readonly chunkRule: string;
  /** What the capture said the plain disk's SHA-256 is; nobody has checked it yet. */
  readonly claimedDigest: Digest | undefined;
  readonly capture: ManifestCapture;
  readonly pages: readonly RootPage[];
}

/** @returns the file's bytes: the JSON line and the line with key and signature */
export function formatManifestRoot(root: ManifestRoot, privateKey: KeyObject): Buffer {
  const line = Buffer.from(
    `${JSON.stringify({
      format: 'ingot-manifest',
      version: VERSION,
      ...root,
      claimedDigest: root.claimedDigest ?? null,
      capture: { ...root.capture, filesystem: root.capture.filesystem ?? null },
    })}\n`,
  );
  const key = publicKeyBytes(createPublicKey(privateKey)).toString('base64');
  const signature = sign(null, line, privateKey).toString('base64');
  return Buffer.concat([line, Buffer.from(`ed25519 ${key} ${signature}\n`, 'latin1')]);
}

/**
 * Reads a root and checks its signature.
 *
 * @param trusted public keys (32 bytes each, base64) whose signature counts
 * @throws IngotError `manifest-invalid`, `version-unknown`
 */
export function parseManifestRoot(bytes: Buffer, trusted: readonly string[]): ManifestRoot {
  const end = bytes.indexOf(0x0a) + 1;
  if (end === 0 || bytes.length > MAX_ROOT_BYTES)
    throw invalid(`${bytes.length} bytes are no root`);
  const line = bytes.subarray(0, end);
  const root = readRoot(line);
  const match = /^ed25519 ([A-Za-z0-9+/=]{44}) ([A-Za-z0-9+/=]{88})\n$/.exec(
    bytes.toString('latin1', end, Math.min(bytes.length, end + 256)),
  );
  const [, key, signature] = match ?? [];
  if (key === undefined || signature === undefined) {
    throw invalid(`the manifest of ${root.imageId} has no signature`);
  }
  if (!trusted.includes(key)) {
    throw invalid(`the manifest of ${root.imageId} is signed with the foreign key ${key}`);
  }
  if (!verify(null, line, publicKeyFrom(key), Buffer.from(signature, 'base64'))) {
    throw invalid(`the signature of the manifest of ${root.imageId} is wrong`);
  }
  return root;
}

/** @returns the 32 bytes of an Ed25519 public key */
export function publicKeyBytes(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length);
}

function publicKeyFrom(base64: string): KeyObject {
  const der = Buffer.concat([SPKI_PREFIX, Buffer.from(base64, 'base64')]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

function readRoot(line: Buffer): ManifestRoot {
  let json: Record<string, unknown>;
  try {
    json = asObject(JSON.parse(line.toString('utf8')));
  } catch (cause) {
    throw new IngotError('manifest-invalid', 'the root is no JSON object', {}, { cause });
  }
  if (json['format'] !== 'ingot-manifest') throw invalid('the root is no manifest of an image');
  if (json['version'] !== VERSION) {
    throw new IngotError(
      'version-unknown',
      `the manifest has version ${String(json['version'])}; this program knows version ${VERSION}`,
    );
  }
  const imageId = text(json, 'imageId');
  const ownerId = text(json, 'ownerId');
  if (!isId('img', imageId)) throw invalid(`${imageId} is no image id`);
  if (!isId('acc', ownerId)) throw invalid(`${ownerId} is no account id`);
  const pages = json['pages'];
  if (!Array.isArray(pages) || pages.length > MAX_PAGES) throw invalid('it has no list of pages');
  const root: ManifestRoot = {
    libraryId: text(json, 'libraryId'),
    imageId,
    ownerId,
    createdAt: whole(json, 'createdAt'),
    virtualSizeBytes: whole(json, 'virtualSizeBytes'),
    chunkRule: text(json, 'chunkRule'),
    claimedDigest: optionalDigest(json['claimedDigest']),
    capture: readCapture(asObject(json['capture'])),
    pages: pages.map(readPage),
  };
  const sum = root.pages.reduce((total, page) => total + page.plainBytes, 0);
  if (sum !== root.virtualSizeBytes) {
    throw invalid(`its pages have ${sum} bytes, the disk ${root.virtualSizeBytes}`);
  }
  return root;
}

function readPage(json: unknown): RootPage {
  const page = asObject(json);
  const digest = optionalDigest(page['digest']);
  const entries = whole(page, 'entries');
  if (digest === undefined || entries < 1 || entries > MAX_PAGE_ENTRIES) {
    throw invalid('one of its pages has no digest or no entries');
  }
  return { digest, entries, plainBytes: whole(page, 'plainBytes') };
}

function readCapture(json: Record<string, unknown>): ManifestCapture {
  const consistency = json['consistency'];
  const freeSpace = json['freeSpace'];
  const filesystem = json['filesystem'];
  if (consistency !== 'frozen' && consistency !== 'crash-consistent' && consistency !== 'none') {
    throw invalid(`${String(consistency)} is no consistency`);
  }
  if (freeSpace !== 'zero' && freeSpace !== 'keep')
    throw invalid('free space is neither zero nor kept');
  if (filesystem !== null && typeof filesystem !== 'string')
    throw invalid('it names no filesystem');
  const freezeMs = json['freezeMs'];
  if (typeof freezeMs !== 'number' || !(freezeMs >= 0))
    throw invalid('the length of the freeze is no number');
  return {
    consistency,
    freezeMs,
    filesystem: filesystem ?? undefined,
    source: text(json, 'source'),
    freeSpace,
  };
}

function asObject(json: unknown): Record<string, unknown> {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalid('it is no object');
  return json as Record<string, unknown>;
}

function text(json: Record<string, unknown>, name: string): string {
  const value = json[name];
  if (typeof value !== 'string' || value.length > 4096) throw invalid(`${name} is no text`);
  return value;
}

function whole(json: Record<string, unknown>, name: string): number {
  const value = json[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalid(`${name} is no whole number`);
  }
  return value;
}

function optionalDigest(value: unknown): Digest | undefined {
  if (value === null) return undefined;
  const digest = typeof value === 'string' ? parseDigest(value) : undefined;
  if (digest === undefined) throw invalid('one of its digests is none');
  return digest;
}

function invalid(what: string): IngotError {
  return new IngotError('manifest-invalid', `the manifest is invalid: ${what}`);
}
