import { type Digest, type Id, newId } from '../../base/index.ts';
import type { DiskFormat } from '../../bytes/index.ts';
import type { Job } from '../jobs/job-catalogue.ts';
import type { ImageRow } from '../library/catalogue.ts';
import type { Image, ImageDescription } from '../library/image.ts';
import type { HandedOutput, HandoverOffer } from './handed-files.ts';
import { importUrl, shownUrl } from './url-source.ts';

/** What a new import is told. */
export interface ImportRequest {
  readonly description: ImageDescription;
  /** Digest and size of the bytes as they are sent. */
  readonly sha256: Digest | undefined;
  readonly sizeBytes: number | undefined;
  readonly format: DiskFormat | undefined;
  readonly freeSpace: 'zero' | 'keep';
  /** Where the daemon fetches the bytes itself. */
  readonly url: string | undefined;
  /** A file of this machine that was left at an offer, and how people know it. */
  readonly handover: { readonly key: string; readonly name: string } | undefined;
}

/** One request's share of an upload. */
export interface UploadPart {
  /** Where its first byte belongs; `anew` forgets what came before. */
  readonly offsetBytes: number | 'anew';
  /** Size of the whole upload, where the request says it. */
  readonly totalBytes: number | undefined;
  /** Whether the upload is whole with it; undefined: when it has the size that was promised. */
  readonly isLast: boolean | undefined;
  /** Digest of the bytes of this part. */
  readonly partSha256: Digest | undefined;
  /** Digest of the whole upload. */
  readonly sha256: Digest | undefined;
}

/** How far an upload is. */
export interface UploadState {
  readonly image: Image;
  readonly offsetBytes: number;
  readonly sizeBytes: number | undefined;
  readonly expiresAt: number;
  /** Whether more bytes are awaited. */
  readonly isReceiving: boolean;
  /** The job that makes the image, once all has arrived. */
  readonly job: Job | undefined;
}

/** The calls of `Imports`, for one account. */
export interface AccountImports {
  offer(): HandoverOffer;
  takeOutput(key: string, name: string): Promise<HandedOutput>;
  begin(request: ImportRequest): Promise<UploadState>;
  upload(
    request: ImportRequest,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
    onBegun?: (imageId: Id<'img'>) => void,
  ): Promise<UploadState>;
  state(imageId: Id<'img'>): Promise<UploadState>;
  receive(imageId: Id<'img'>, body: AsyncIterable<Buffer>, part: UploadPart): Promise<UploadState>;
  cancel(imageId: Id<'img'>): Promise<void>;
}

/** Makes the row of an image that an import is to make. */
export function newImportRow(accountId: Id<'acc'>, request: ImportRequest, now: number): ImageRow {
  return {
    ...request.description,
    id: newId('img'),
    ownerId: accountId,
    status: 'creating',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt: now,
    virtualSizeBytes: 0,
    gzipSizeBytes: 0,
    addedBytes: 0,
    plainDigest: undefined,
    claimedDigest: undefined,
    chunkRule: '',
    pageCount: 0,
    capture: {
      consistency: 'crash-consistent',
      freezeMs: 0,
      filesystem: undefined,
      source: sourceName(request),
      freeSpace: request.freeSpace,
    },
  };
}

/** How people know what an image is made of. */
function sourceName({ url, handover, description }: ImportRequest): string {
  if (url !== undefined) return shownUrl(importUrl(url));
  return handover?.name ?? description.name;
}
