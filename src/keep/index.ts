export type { SegmentCodec } from './chunks/segment-codec.ts';
export type {
  IngestSession,
  IngestSummary,
  IngestTarget,
  ManifestEntry,
} from './ingest/ingest-session.ts';
export type { Image, ImageDescription, ImageKind, ImageStatus } from './library/image.ts';
export type {
  ChunkLocation,
  OpenChunk,
  OpenEntry,
  OpenHole,
  OpenImage,
  OpenPage,
} from './library/open-image.ts';
