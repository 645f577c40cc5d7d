export type {
  CaptureFacts,
  Consistency,
  SnapshotPass,
  SnapshotSource,
} from './snapshot-source.ts';
