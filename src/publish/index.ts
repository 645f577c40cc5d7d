export type { ArtifactPayload, CodeApartOptions, CodedPiece, DataCoding } from './artifact-data.ts';
export { type CodedPayload, writeArtifactOfSegments } from './artifact-of-segments.ts';
export { type ArtifactRewrite, rewriteHeader } from './artifact-rewrite.ts';
export {
  type ArtifactSigner,
  type ArtifactTarget,
  type FilePlace,
  type WriteArtifactRequest,
  type WrittenArtifact,
  writeArtifact,
} from './artifact-write.ts';
export { CodedImage } from './coded-image.ts';
export { type GeneralizeStep, planGeneralize } from './generalize/plan.ts';
export { GENERALIZE_RULES } from './generalize/rules.ts';
export { type ImageArtifact, publishImageArtifact } from './image-artifact.ts';
export {
  type EditorEntry,
  type FileAttributes,
  type FilesystemEditor,
  type FilesystemPlace,
  imagePath,
} from './image-edit/filesystem-editor.ts';
export {
  expectRootPath,
  type ImagePlace,
  parseImagePlace,
  partitionFor,
} from './image-edit/image-place.ts';
export {
  type ChangedFact,
  diffImages,
  type FileDifference,
} from './image-files/diff-images.ts';
export { FeedReader } from './image-files/feed-reader.ts';
export { decodeName, formatName } from './image-files/file-name.ts';
export { type ImagePath, parseImagePath } from './image-files/image-path.ts';
export { type ListedFile, listFiles } from './image-files/list-files.ts';
export { type ImageTree, openImageTree } from './image-files/open-tree.ts';
export {
  diffPackages,
  type PackageDifference,
  readPackages,
} from './image-files/packages.ts';
export { resolvePath } from './image-files/resolve-path.ts';
export { makeZeros } from './known-zeros.ts';
export type { PublishedFile } from './published-file.ts';
export { publishRaw } from './raw.ts';
export { publishRawGz } from './raw-gz.ts';
export { inOrder } from './restore/in-order.ts';
export { OpenImageFeed } from './restore/open-image-feed.ts';
export { PlainChunks } from './restore/plain-chunks.ts';
export {
  type FeedChunk,
  type FeedEntry,
  type FeedHole,
  type FeedPage,
  MAX_FEED_READ_BYTES,
  type RestoreFeed,
} from './restore/restore-feed.ts';
export {
  type RestoreOptions,
  type RestoreReport,
  restoreImage,
  verifyTarget,
} from './restore/restore-image.ts';
export type { RestoreTarget, TargetFacts } from './restore/restore-target.ts';
export { ReusedBuffers } from './reused-buffers.ts';
export { snapshotPayload } from './snapshot-payload.ts';
export { type PublishedStream, publishZstd } from './zst.ts';
