export { ByteQueue } from './byte-queue.ts';
export type { ByteReader } from './byte-reader.ts';
export { ByteStream } from './byte-stream.ts';
export { ChunkCutter, type ChunkRule, type ChunkRuleInput, type Cut } from './chunk-rule.ts';
export {
  type Compression,
  compressionExtension,
  MAGIC_BYTES,
  sniffCompression,
} from './compression/compression.ts';
export { decompress } from './compression/decompress.ts';
export { combineCrc32, crc32OfZeros } from './crc32-combine.ts';
export {
  checkDiskHeader,
  checkImageInfo,
  DISK_FORMATS,
  DISK_HEADER_BYTES,
  type DiskFormat,
  sniffDiskFormat,
} from './disk-format.ts';
export { type Extent, type FileExtents, mergeExtents, totalBytes } from './extent.ts';
export { type DiskLayout, readDiskLayout } from './filesystems/disk-layout.ts';
export {
  type DiskMap,
  type DiskMapOptions,
  type DiskPartition,
  readDiskMap,
} from './filesystems/disk-map.ts';
export { ExtTree } from './filesystems/ext/tree.ts';
export {
  type DirectoryEntry,
  type FileKind,
  type FileNode,
  type FilePlace,
  type FileTree,
  lookUp,
} from './filesystems/file-tree.ts';
export type { DiskState } from './filesystems/filesystem-map.ts';
export {
  BOOT_TREE_FILESYSTEMS,
  FILE_TREE_FILESYSTEMS,
  openFileTree,
} from './filesystems/open-file-tree.ts';
export {
  GZIP_HEADER,
  GZIP_TRAILER_BYTES,
  gzipTrailer,
  splicedGzipBytes,
  spliceGzip,
} from './gzip-splice.ts';
export {
  encodeManifestPage,
  MAX_PAGE_BYTES,
  MAX_PAGE_ENTRIES,
  type ManifestPage,
  PageCutter,
  type PageEntry,
  parseManifestPage,
} from './manifest-page.ts';
export {
  formatManifestRoot,
  MAX_ROOT_BYTES,
  type ManifestCapture,
  type ManifestRoot,
  parseManifestRoot,
  publicKeyBytes,
  type RootPage,
} from './manifest-root.ts';
export {
  type Artifact,
  type ArtifactHeader,
  type AugmentHeader,
  type OuterEntry,
  type PayloadFile,
  type PayloadHeader,
  ROOTFS_IMAGE,
  type SignatureState,
  type StateScript,
} from './mender-artifact/artifact.ts';
export {
  type DataFile,
  type DataLayout,
  encodeAugmentHeaderTar,
  encodeHead,
  encodeHeaderTar,
  encodeManifests,
  encodeTail,
  type HeadParts,
  layOutData,
  type ManifestParts,
} from './mender-artifact/artifact-head.ts';
export {
  type PayloadFileStart,
  type ReadArtifactOptions,
  readArtifact,
} from './mender-artifact/artifact-reader.ts';
export {
  byBytes,
  encodeGoJson,
  type JsonValue,
  parseJson,
  sortedDeep,
  sortedMap,
} from './mender-artifact/go-json.ts';
export type { HeaderInfo } from './mender-artifact/header-info.ts';
export type { ManifestLine } from './mender-artifact/manifest.ts';
export { type RootfsDescription, rootfsHeader } from './mender-artifact/rootfs-header.ts';
export { checkNewPayloadName, isScriptName, nameFaults } from './mender-artifact/rules.ts';
export { planSignature, type SignPlan } from './mender-artifact/sign-plan.ts';
export {
  type ArtifactKey,
  readSigningKey,
  readVerificationKey,
  signatureFileBytes,
  signatureFileOf,
  signManifest,
} from './mender-artifact/signature.ts';
export {
  defaultClearsProvides,
  type SoftwareVersion,
  withSoftwareVersion,
} from './mender-artifact/software-version.ts';
export type { DependsValue, TypeInfo } from './mender-artifact/type-info.ts';
export type { FormatVersion } from './mender-artifact/version-file.ts';
export { OffsetTable } from './offset-table.ts';
export {
  checkPackHeader,
  encodePackFooter,
  encodePackHeader,
  isPackId,
  PACK_ENTRY_BYTES,
  PACK_HEADER_BYTES,
  PACK_TARGET_BYTES,
  PACK_TARGET_ENTRIES,
  PACK_TRAILER_BYTES,
  type PackEntry,
  parsePackFooter,
  parsePackTrailer,
} from './pack.ts';
export {
  MAX_FRAME_LINE_BYTES,
  type PullFrame,
  parsePullFrame,
  WIRE_CODECS,
  type WireCodec,
} from './pull-frame.ts';
export {
  encodePullFileHead,
  encodePullRecord,
  PULL_FILE_HEAD_BYTES,
  PULL_RECORD_HEAD_BYTES,
  parsePullFileHead,
  parsePullRecord,
  parsePullRecordHead,
} from './pull-record.ts';
export { pushJoined } from './push-joined.ts';
export { releaseMemory } from './release-memory.ts';
export { parseRpmHeader } from './rpm-header.ts';
export { MAX_CHUNK_BYTES, MAX_CODED_BYTES, type Segment } from './segment.ts';
export { makeSegmentProbe, type SegmentProbe } from './segment-probe.ts';
export { storedSegment, storedSegmentBytes, storeInto } from './stored-segment.ts';
export { zeroSegments, zeroSegmentsBytes } from './zero-runs.ts';
