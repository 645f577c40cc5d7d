import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '../../src/base/index.ts';
import type { ArtifactHeader } from '../../src/bytes/index.ts';
import {
  encodeAugmentHeaderTar,
  encodeHead,
  encodeHeaderTar,
  encodeManifests,
  encodeTail,
  layOutData,
} from '../../src/bytes/mender-artifact/artifact-head.ts';
import { type ArtifactKey, signManifest } from '../../src/bytes/mender-artifact/signature.ts';

/** A payload file of an artifact that is wholly in memory. */
export interface SmallFile {
  readonly name: string;
  readonly body: Uint8Array;
  readonly isAugmented?: boolean;
}

type SmallCompression = 'none' | 'gzip' | 'zstd';

const COMPRESS = {
  none: (plain: Buffer) => plain,
  gzip: (plain: Buffer) => gzipSync(plain),
  zstd: (plain: Buffer) => zstdCompressSync(plain),
} as const;

/** The header of a rootfs-image artifact; `changes` go over it. */
export function smallHeader(changes: Partial<ArtifactHeader> = {}): ArtifactHeader {
  return {
    version: 3,
    info: {
      payloadType: 'rootfs-image',
      name: 'release-1',
      group: undefined,
      dependsNames: [],
      deviceTypes: ['qemu'],
      dependsGroups: [],
    },
    payload: {
      typeInfo: {
        type: 'rootfs-image',
        provides: new Map([['rootfs-image.version', 'release-1']]),
        depends: new Map(),
        clearsProvides: ['rootfs-image.*'],
      },
      metaData: undefined,
    },
    augment: undefined,
    scripts: [],
    ...changes,
  };
}

/** Builds a whole artifact in memory, for tests of readers. */
export function smallArtifact({
  header = smallHeader(),
  files = [{ name: 'rootfs.ext4', body: Buffer.from('root filesystem') }],
  compression = 'none',
  key,
  change = (_part, plain) => plain,
}: {
  readonly header?: ArtifactHeader;
  readonly files?: readonly SmallFile[];
  readonly compression?: SmallCompression;
  readonly key?: ArtifactKey;
  /** Changes an inner archive before it is compressed and its digest computed. */
  readonly change?: (part: 'header' | 'data', plain: Buffer) => Buffer;
} = {}): Buffer {
  const compress = COMPRESS[compression];
  const names = files.map((file) => file.name);
  const augmentTar = encodeAugmentHeaderTar(header);
  const listed = files.map(({ name, body, isAugmented = false }) => ({
    name,
    digest: digestOf(body),
    isAugmented,
  }));
  const layout = layOutData(
    files.map(({ name, body }) => ({ name, mode: 0o644, sizeBytes: body.byteLength })),
  );
  const plain: Uint8Array[] = [];
  for (const [i, file] of files.entries()) plain.push(layout.before[i] ?? Buffer.of(), file.body);
  const data = compress(change('data', Buffer.concat([...plain, layout.end])));
  const parts = {
    header,
    compression,
    headerBytes: compress(change('header', encodeHeaderTar(header, names))),
    augmentHeaderBytes: augmentTar === undefined ? undefined : compress(augmentTar),
    files: listed,
  };
  const { manifest } = encodeManifests(parts);
  const head = encodeHead({
    ...parts,
    signatureFile: key === undefined ? undefined : signManifest(manifest, key),
    dataBytes: data.length,
    forcePax: false,
  });
  return Buffer.concat([head, data, encodeTail(data.length)]);
}

/** Yields bytes in pieces of this length, as a file or a socket would. */
export async function* inPieces(
  bytes: Uint8Array,
  pieceBytes = 65_536,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
    yield bytes.subarray(at, at + pieceBytes);
  }
}
