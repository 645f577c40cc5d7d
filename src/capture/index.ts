export { type DumpReport, type DumpRequest, dumpSnapshot } from './dump.ts';
export type { DumpTarget, WriteWatch } from './dump-target.ts';
export {
  DEFAULT_MAX_FREEZE_MS,
  FROZEN_RECORDS,
  type FreezeLimits,
  MAX_STALL_MS,
} from './freeze.ts';
export { readLivePasses } from './live-passes.ts';
export { formatDeviceNumber } from './mount-table.ts';
export type {
  CaptureFacts,
  Consistency,
  HeldFreeze,
  SnapshotPass,
  SnapshotSource,
} from './snapshot-source.ts';
export { gzipCompressor, type StreamCompressor } from './stream-compressor.ts';
