import type { Digest } from '../../base/index.ts';
import type { Compression } from '../compression/compression.ts';
import type { JsonValue } from './go-json.ts';
import type { HeaderInfo } from './header-info.ts';
import type { ManifestLine } from './manifest.ts';
import type { TypeInfo } from './type-info.ts';
import type { FormatVersion } from './version-file.ts';

/** The type of payload that is a whole root filesystem. */
export const ROOTFS_IMAGE = 'rootfs-image';

/** A state script, wholly in memory. */
export interface StateScript {
  /** Without a folder: `ArtifactInstall_Enter_10_stop-app`. */
  readonly name: string;
  /** Permission bits. */
  readonly mode: number;
  readonly content: Uint8Array;
}

/** What a payload is: its type, what it gives and needs, and metadata for its update module. */
export interface PayloadHeader {
  readonly typeInfo: TypeInfo;
  /** Undefined when it is absent or empty. */
  readonly metaData: ReadonlyMap<string, JsonValue> | undefined;
}

/** Additions to a payload that the signature does not cover. */
export interface AugmentHeader extends PayloadHeader {
  /** The type as the augmented header names it; "" leaves the payload's own. */
  readonly payloadType: string | null;
}

/** All that an artifact says before its payload. */
export interface ArtifactHeader {
  readonly version: FormatVersion;
  readonly info: HeaderInfo;
  readonly payload: PayloadHeader;
  readonly augment: AugmentHeader | undefined;
  readonly scripts: readonly StateScript[];
}

/** A payload file that was read and whose digest was right. */
export interface PayloadFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly digest: Digest;
  /** Whether the augmented manifest names it. */
  readonly isAugmented: boolean;
}

/** Where one file of the artifact's outer archive lies. */
export interface OuterEntry {
  readonly name: string;
  readonly startByte: number;
  readonly bodyByte: number;
  readonly sizeBytes: number;
}

/** What the signature is worth: `right` and `wrong` only where a key was there to check it. */
export type SignatureState = 'absent' | 'unchecked' | 'right' | 'wrong';

/** An artifact that was read to its end, with every digest checked. */
export interface Artifact extends ArtifactHeader {
  readonly compression: Compression;
  readonly manifest: readonly ManifestLine[];
  /** The bytes that a signature signs. */
  readonly manifestBytes: Buffer;
  readonly signature: SignatureState;
  readonly signatureFile: Buffer | undefined;
  readonly files: readonly PayloadFile[];
  readonly entries: readonly OuterEntry[];
  readonly sizeBytes: number;
  /** Sentences about what is tolerated but wrong. */
  readonly notices: readonly string[];
}
