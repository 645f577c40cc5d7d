import { IngotError } from '../../base/index.ts';
import { encodeTarHeader, tarPaddingBytes } from '../tar/tar-header.ts';
import type { Artifact } from './artifact.ts';

/** How a signature gets into an artifact that is there: bytes before, the entry, bytes after. */
export interface SignPlan {
  /** Keep the artifact's bytes from 0 to here. */
  readonly keepToByte: number;
  /** The entry `manifest.sig`. */
  readonly entry: Buffer;
  /** Go on with the artifact's bytes from here to its end. */
  readonly continueAtByte: number;
}

/**
 * Plans how an artifact is signed, or signed anew: everything else stays as it is.
 *
 * @param signatureFile content of `manifest.sig`
 */
export function planSignature(artifact: Artifact, signatureFile: Uint8Array): SignPlan {
  const names = artifact.entries.map((entry) => entry.name);
  const afterManifest = artifact.entries[names.indexOf('manifest') + 1];
  const old = artifact.entries[names.indexOf('manifest.sig') + 1];
  const next = names.includes('manifest.sig') ? old : afterManifest;
  if (afterManifest === undefined || next === undefined) {
    throw new IngotError('artifact-malformed', 'the artifact has no header after its manifest');
  }
  const sizeBytes = signatureFile.byteLength;
  return {
    keepToByte: afterManifest.startByte,
    entry: Buffer.concat([
      encodeTarHeader({ name: 'manifest.sig', mode: 0o600, sizeBytes }),
      signatureFile,
      Buffer.alloc(tarPaddingBytes(sizeBytes)),
    ]),
    continueAtByte: next.startByte,
  };
}
