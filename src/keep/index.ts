export type { Account, ApiClient } from './accounts/account-catalogue.ts';
export type { Accounts, NewClient } from './accounts/accounts.ts';
export {
  type ChunkWorkers,
  type CodedSpan,
  LENT_AT_ONCE,
  type LentBuffer,
  type Span,
} from './chunks/chunk-workers.ts';
export type { Disk, DiskFile } from './chunks/disk.ts';
export type { SegmentCodec } from './chunks/segment-codec.ts';
export type {
  HandedFile,
  HandedOutput,
  Handover,
  HandoverOffer,
  OpenHandover,
} from './imports/handed-files.ts';
export type { ImportLimits } from './imports/import-order.ts';
export type {
  AccountImports,
  ImportRequest,
  UploadPart,
  UploadState,
} from './imports/import-request.ts';
export type { OpenReceived, ReceivedFile } from './imports/import-work.ts';
export type { ImportParts, Imports } from './imports/imports.ts';
export type {
  IngestSession,
  IngestSummary,
  IngestTarget,
  ManifestEntry,
} from './ingest/ingest-session.ts';
export { type IngestOptions, ingestSnapshot } from './ingest/ingest-snapshot.ts';
export type { OpenSpool, Spool } from './ingest/spool.ts';
export type { Job, JobKind, JobState } from './jobs/job-catalogue.ts';
export type { JobRunner } from './jobs/job-runner.ts';
export type { Schedule, ScheduleState, Schedules } from './jobs/schedules.ts';
export type { Catalogue, LibraryCounts } from './library/catalogue.ts';
export type { CollectOptions, CollectReport } from './library/collect.ts';
export { DirectoryLibrary, type LibraryParts } from './library/directory-library.ts';
export type { LibraryHealth } from './library/health.ts';
export type { Image, ImageDescription, ImageKind, ImageStatus } from './library/image.ts';
export type {
  AccountLibrary,
  ImagePage,
  ImageUpdate,
  LibrarySession,
} from './library/image-library.ts';
export type { LibraryLimits } from './library/library-context.ts';
export type {
  ChunkLocation,
  OpenChunk,
  OpenEntry,
  OpenHole,
  OpenImage,
  OpenPage,
} from './library/open-image.ts';
export { decidePrune, type PruneDecision, type PrunePolicy } from './library/prune.ts';
export type { ImportOptions, TransferOptions } from './library/transfer.ts';
export type { VerifyOptions, VerifyReport } from './library/verify.ts';
