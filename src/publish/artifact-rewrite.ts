import {
  type Artifact,
  type ArtifactHeader,
  encodeAugmentHeaderTar,
  encodeHead,
  encodeHeaderTar,
  encodeManifests,
  encodeTail,
} from '../bytes/index.ts';
import { codeSmall, type DataCoding } from './artifact-data.ts';
import type { ArtifactSigner } from './artifact-write.ts';

/** The new head of an artifact whose payload stays as it is stored. */
export interface ArtifactRewrite {
  readonly head: Buffer;
  /** Bytes of the old artifact that follow the head. */
  readonly dataFromByte: number;
  readonly dataToByte: number;
  readonly tail: Buffer;
}

/**
 * Plans an artifact with another header and the same payload: nothing of it is compressed again.
 *
 * @param coding of the same compression as the artifact's
 * @param signer the old signature does not fit a new header; without a signer there is none
 */
export async function rewriteHeader(
  artifact: Artifact,
  header: ArtifactHeader,
  { coding, signer }: { readonly coding: DataCoding; readonly signer: ArtifactSigner | undefined },
): Promise<ArtifactRewrite> {
  const data = artifact.entries.at(-1);
  if (data === undefined) throw new RangeError('an artifact that was read has entries');
  const names = artifact.files.filter((file) => !file.isAugmented).map((file) => file.name);
  const augmentTar = encodeAugmentHeaderTar(header);
  const parts = {
    header,
    compression: artifact.compression,
    headerBytes: await codeSmall(encodeHeaderTar(header, names), coding),
    augmentHeaderBytes: augmentTar === undefined ? undefined : await codeSmall(augmentTar, coding),
    files: artifact.files,
  };
  const signatureFile = await signer?.sign(encodeManifests(parts).manifest);
  return {
    head: encodeHead({ ...parts, signatureFile, dataBytes: data.sizeBytes, forcePax: false }),
    dataFromByte: data.bodyByte,
    dataToByte: data.bodyByte + data.sizeBytes,
    tail: encodeTail(data.sizeBytes),
  };
}
