import type { Digest, Id } from '../../base/index.ts';
import type { DiskFormat } from '../../bytes/index.ts';

/** An image that the daemon makes from bytes that it is sent or fetches. */
export interface ImportOrder {
  /** Its image, which is `creating` as long as the order is there. */
  readonly imageId: Id<'img'>;
  readonly accountId: Id<'acc'>;
  /** Whether bytes are awaited, or a job has it. */
  readonly state: 'receiving' | 'queued';
  /** Where the daemon fetches the bytes; undefined: they are uploaded. */
  readonly url: string | undefined;
  /** What the bytes must have, as they are sent: compressed, where they are. */
  readonly sha256: Digest | undefined;
  readonly sizeBytes: number | undefined;
  /** Undefined: by the first bytes. */
  readonly format: DiskFormat | undefined;
  readonly freeSpace: 'zero' | 'keep';
  /** When something was last received, in ms since 1970. */
  readonly touchedAt: number;
}

/** What may change of an order. */
export type ImportChanges = Partial<
  Pick<ImportOrder, 'state' | 'sha256' | 'sizeBytes' | 'touchedAt'>
>;

/** What imports refuse to go beyond. */
export interface ImportLimits {
  /** Bytes of one upload or download, as they are sent. */
  readonly uploadBytes: number;
  /** Size of the disk that they unpack to. */
  readonly imageBytes: number;
  /** Bytes of the disk that stay free. */
  readonly diskReserveBytes: number;
  /** Images in `creating` by imports, per account. */
  readonly perAccount: number;
  /** An upload to which nothing is added for so long is given up. */
  readonly expiryMs: number;
}
