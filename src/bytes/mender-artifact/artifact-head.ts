import { type Digest, digestOf } from '../../base/index.ts';
import { type Compression, compressionExtension } from '../compression/compression.ts';
import {
  encodeTar,
  encodeTarHeader,
  TAR_BLOCK,
  TAR_END,
  tarPaddingBytes,
} from '../tar/tar-header.ts';
import { type ArtifactHeader, type PayloadHeader, ROOTFS_IMAGE } from './artifact.ts';
import { byBytes, encodeGoJson, sortedDeep } from './go-json.ts';
import { encodeHeaderInfo } from './header-info.ts';
import { encodeManifest, type ManifestLine } from './manifest.ts';
import { encodeFilesV2, encodeTypeInfo } from './type-info.ts';
import { encodeVersionFile } from './version-file.ts';

const PRIVATE = 0o600;

/** Clients in C++ stop too early when the inner archive's length is a multiple of this. */
const UNLUCKY_LENGTH = 65_536;

interface SmallFile {
  readonly name: string;
  readonly mode: number;
  readonly body: Uint8Array;
}

function metaDataFile(payload: PayloadHeader): SmallFile[] {
  const name = 'headers/0000/meta-data';
  if (payload.metaData !== undefined) {
    const text = encodeGoJson(sortedDeep(payload.metaData));
    return [{ name, mode: PRIVATE, body: Buffer.from(text, 'utf8') }];
  }
  // A root filesystem has the entry without content; other types leave it out.
  return payload.typeInfo.type === ROOTFS_IMAGE
    ? [{ name, mode: PRIVATE, body: Buffer.alloc(0) }]
    : [];
}

/**
 * Encodes `header.tar`, not compressed. Scripts are sorted by name, so that equal inputs give equal
 * bytes.
 *
 * @param payloadNames names of the payload files, which version 2 lists
 * @see docs/formats/mender-artifact.md "header.tar"
 */
export function encodeHeaderTar(header: ArtifactHeader, payloadNames: readonly string[]): Buffer {
  const { version, info, payload } = header;
  const scripts = [...header.scripts].sort((a, b) => byBytes(a.name, b.name));
  const typeInfo =
    version === 3
      ? payload.typeInfo
      : { ...payload.typeInfo, provides: new Map(), depends: new Map(), clearsProvides: [] };
  return encodeTar([
    { name: 'header-info', mode: PRIVATE, body: encodeHeaderInfo(info, version) },
    ...scripts.map(({ name, mode, content }) => ({
      name: `scripts/${name}`,
      mode: mode & 0o777,
      body: content,
    })),
    ...(version === 2
      ? [{ name: 'headers/0000/files', mode: PRIVATE, body: encodeFilesV2(payloadNames) }]
      : []),
    { name: 'headers/0000/type-info', mode: PRIVATE, body: encodeTypeInfo(typeInfo) },
    ...metaDataFile(payload),
  ]);
}

/** Encodes `header-augment.tar`, not compressed; undefined when there is nothing to augment. */
export function encodeAugmentHeaderTar(header: ArtifactHeader): Buffer | undefined {
  const { augment, info } = header;
  if (augment === undefined) return undefined;
  const augmented = { ...info, payloadType: augment.payloadType };
  return encodeTar([
    { name: 'header-info', mode: PRIVATE, body: encodeHeaderInfo(augmented, 3) },
    { name: 'headers/0000/type-info', mode: PRIVATE, body: encodeTypeInfo(augment.typeInfo) },
    ...metaDataFile(augment),
  ]);
}

/** What the manifests list. */
export interface ManifestParts {
  readonly header: ArtifactHeader;
  readonly compression: Compression;
  /** `header.tar` as it is stored. */
  readonly headerBytes: Uint8Array;
  /** `header-augment.tar` as it is stored. */
  readonly augmentHeaderBytes: Uint8Array | undefined;
  readonly files: readonly {
    readonly name: string;
    readonly digest: Digest;
    readonly isAugmented: boolean;
  }[];
}

/** @returns `manifest`, and `manifest-augment` where there is an augmented header */
export function encodeManifests(parts: ManifestParts): {
  readonly manifest: Buffer;
  readonly augment: Buffer | undefined;
} {
  const extension = compressionExtension(parts.compression);
  const lines = (isAugmented: boolean): ManifestLine[] =>
    parts.files
      .filter((file) => file.isAugmented === isAugmented)
      .map(({ name, digest }) => ({ name: `data/0000/${name}`, digest }));
  const manifest = encodeManifest([
    ...lines(false),
    { name: `header.tar${extension}`, digest: digestOf(parts.headerBytes) },
    { name: 'version', digest: digestOf(encodeVersionFile(parts.header.version)) },
  ]);
  if (parts.augmentHeaderBytes === undefined) return { manifest, augment: undefined };
  const augment = encodeManifest([
    ...lines(true),
    { name: `header-augment.tar${extension}`, digest: digestOf(parts.augmentHeaderBytes) },
  ]);
  return { manifest, augment };
}

/** All that stands before the bytes of `data/0000.tar`. */
export interface HeadParts extends ManifestParts {
  /** Content of `manifest.sig`, or undefined for an unsigned artifact. */
  readonly signatureFile: Uint8Array | undefined;
  /** Stored size of `data/0000.tar`. */
  readonly dataBytes: number;
  /** Writes the size in a PAX header even where it would fit: the head's length is then certain. */
  readonly forcePax: boolean;
}

function outerEntry(name: string, body: Uint8Array): Buffer {
  return Buffer.concat([
    encodeTarHeader({ name, mode: PRIVATE, sizeBytes: body.byteLength }),
    body,
    Buffer.alloc(tarPaddingBytes(body.byteLength)),
  ]);
}

/**
 * Encodes the artifact up to and with the tar header of `data/0000.tar`.
 *
 * After it come `dataBytes` bytes, zeros up to a block, and two zero blocks ({@link encodeTail}).
 *
 * @see docs/formats/mender-artifact.md "The outer archive"
 */
export function encodeHead(parts: HeadParts): Buffer {
  const extension = compressionExtension(parts.compression);
  const { manifest, augment } = encodeManifests(parts);
  const entries = [
    outerEntry('version', encodeVersionFile(parts.header.version)),
    outerEntry('manifest', manifest),
  ];
  if (parts.signatureFile !== undefined) {
    entries.push(outerEntry('manifest.sig', parts.signatureFile));
  }
  if (augment !== undefined) entries.push(outerEntry('manifest-augment', augment));
  entries.push(outerEntry(`header.tar${extension}`, parts.headerBytes));
  if (parts.augmentHeaderBytes !== undefined) {
    entries.push(outerEntry(`header-augment.tar${extension}`, parts.augmentHeaderBytes));
  }
  const data = { name: `data/0000.tar${extension}`, mode: PRIVATE, sizeBytes: parts.dataBytes };
  entries.push(encodeTarHeader(data, { forcePax: parts.forcePax }));
  return Buffer.concat(entries);
}

/** Encodes what follows the bytes of `data/0000.tar`: padding and the end of the archive. */
export function encodeTail(dataBytes: number): Buffer {
  return Buffer.concat([Buffer.alloc(tarPaddingBytes(dataBytes)), TAR_END]);
}

/** A payload file as it stands in `data/0000.tar`. */
export interface DataFile {
  readonly name: string;
  readonly mode: number;
  readonly sizeBytes: number;
}

/** The bytes of `data/0000.tar` around the files' own. */
export interface DataLayout {
  /** For each file what stands before it: the padding of the one before, and its header. */
  readonly before: readonly Buffer[];
  /** What ends the archive. */
  readonly end: Buffer;
  readonly sizeBytes: number;
}

/**
 * Lays out `data/0000.tar`, not compressed.
 *
 * Its length is never a multiple of 64 KiB: a zero block more avoids a defect of clients in C++.
 */
export function layOutData(files: readonly DataFile[]): DataLayout {
  const before: Buffer[] = [];
  let paddingBytes = 0;
  let sizeBytes = 0;
  for (const file of files) {
    const header = Buffer.concat([Buffer.alloc(paddingBytes), encodeTarHeader(file)]);
    before.push(header);
    sizeBytes += header.length + file.sizeBytes;
    paddingBytes = tarPaddingBytes(file.sizeBytes);
  }
  const endBytes = paddingBytes + TAR_END.length;
  const isUnlucky = (sizeBytes + endBytes) % UNLUCKY_LENGTH === 0;
  const end = Buffer.alloc(endBytes + (isUnlucky ? TAR_BLOCK : 0));
  return { before, end, sizeBytes: sizeBytes + end.length };
}
