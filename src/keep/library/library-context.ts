import type { Clock, DigestStream, Log } from '../../base/index.ts';
import type { ChunkWorkers } from '../chunks/chunk-workers.ts';
import type { Disk } from '../chunks/disk.ts';
import type { PackFiles } from '../chunks/pack-reader.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { Catalogue } from './catalogue.ts';
import type { ImageLeases } from './image-leases.ts';
import type { LibraryKey } from './library-key.ts';
import type { ManifestFiles } from './manifest-files.ts';
import type { Mutex } from './mutex.ts';
import type { Reserve } from './reserve.ts';
import type { Traffic } from './traffic.ts';

/** What a library refuses to go beyond. */
export interface LibraryLimits {
  /** Ingests open at once, in all. */
  readonly sessions: number;
  /** Ingests open at once per account. */
  readonly sessionsPerAccount: number;
  /** An ingest without a call for so long is given up. */
  readonly sessionIdleMs: number;
  /** Coded bytes that one ingest may deliver. */
  readonly sessionBytes: number;
  /** Extents of one image. */
  readonly entries: number;
  /** Size of one image's disk. */
  readonly virtualBytes: number;
  /** Packs are sealed at this size. */
  readonly packBytes: number;
  /** Disks up to this size are digested as soon as they are there. */
  readonly digestBytes: number;
  /** How long nobody must have come before work that can wait begins. */
  readonly quietMs: number;
  /** Size of the file that makes room for deletes on a full disk; 0 for none. */
  readonly reserveBytes: number;
}

/** What the parts of one open library share. */
export interface LibraryContext {
  readonly disk: Disk;
  readonly catalogue: Catalogue;
  readonly codec: SegmentCodec;
  readonly workers: ChunkWorkers;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: LibraryLimits;
  readonly libraryId: string;
  readonly key: LibraryKey;
  readonly manifests: ManifestFiles;
  readonly packFiles: PackFiles;
  readonly leases: ImageLeases;
  readonly traffic: Traffic;
  readonly openDigestStream: () => DigestStream;
  readonly reserve: Reserve;
  /** Held while pages are staged and written, and while unheld ones are removed. */
  readonly pageGate: Mutex;
  /** Held while an image's row, record and manifest change together. */
  readonly imageGate: Mutex;
}
