export { ALIGNMENT_BYTES, alignedMemory } from './aligned-memory.ts';
export { type Clock, isoTime, parseIsoTime, systemClock } from './clock.ts';
export { copyBytes } from './copy-bytes.ts';
export { type Digest, digestBytes, digestFromBytes, digestOf, parseDigest } from './digest.ts';
export { DigestBlocks } from './digest-blocks.ts';
export { type DigestStream, inlineDigestStream } from './digest-stream.ts';
export {
  errnoOf,
  FAILURES,
  type FailureCode,
  type FailureFacts,
  IngotError,
  isFailure,
  isFailureCode,
} from './errors.ts';
export type { FileDigest } from './file-digest.ts';
export { ID_PREFIXES, type Id, type IdPrefix, isId, newId } from './ids.ts';
export { type Log, type LogFacts, silentLog } from './log.ts';
export { NODE_FLAGS } from './node-flags.ts';
export { noProgress, type OnProgress, type ProgressReport } from './progress.ts';
export { MARK_BYTES, SecretMarks } from './secret-marks.ts';
export {
  formatBytes,
  formatDuration,
  GIB,
  KIB,
  MIB,
  mebibytesRoundedUp,
  parseDuration,
  parseSize,
} from './sizes.ts';
