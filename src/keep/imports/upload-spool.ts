import type { Id, Log } from '../../base/index.ts';

/** Bytes of one import on their way in, written at the end. */
export interface UploadFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** @throws IngotError `library-full` when no space is left */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes what was appended survive a power cut. */
  datasync(): Promise<void>;
}

/**
 * Keeps what is sent for images that are not made yet: one folder each, with the bytes as they came
 * and room for what is made of them on the way.
 *
 * It promises that bytes that were synced survive a power cut, and that what was appended survives
 * the end of the process.
 */
export interface UploadSpool {
  /** Makes the folder, so that it survives a power cut; one that is there is left as it is. */
  make(imageId: Id<'img'>): Promise<void>;
  /** @returns where temporary files of this import may lie; they go with it */
  folderOf(imageId: Id<'img'>): string;
  /** @returns where the received bytes lie */
  fileOf(imageId: Id<'img'>): string;
  /** @returns bytes received; 0 when nothing was */
  sizeOf(imageId: Id<'img'>): Promise<number>;
  append(imageId: Id<'img'>): Promise<UploadFile>;
  /** Takes back what lies behind the first `sizeBytes`, also when the power goes behind it. */
  truncate(imageId: Id<'img'>, sizeBytes: number): Promise<void>;
  /** Yields what was received; each piece is the caller's. */
  read(imageId: Id<'img'>): AsyncIterable<Buffer>;
  /** Removes the folder with everything in it; one that is not there is fine. */
  remove(imageId: Id<'img'>): Promise<void>;
  /**
   * Removes whatever belongs to none of these imports, and temporary files of all. What cannot be
   * removed keeps nothing else from going; the first such failure is thrown in the end.
   */
  sweep(imageIds: ReadonlySet<Id<'img'>>): Promise<void>;
  /** @returns bytes that can still be written */
  freeBytes(): Promise<number>;
}

/**
 * Removes what was received for an import that is over. What the disk does not let go of does not
 * change how it ended: it takes space until the next start sweeps it away, and the log says so.
 */
export async function removeReceived(
  { spool, log }: { readonly spool: UploadSpool; readonly log: Log },
  imageId: Id<'img'>,
): Promise<void> {
  try {
    await spool.remove(imageId);
  } catch (error) {
    log.warn('what was received for an import could not be removed', {
      imageId,
      error: String(error),
    });
  }
}
