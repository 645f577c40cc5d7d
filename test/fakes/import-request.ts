import type { ImportLimits } from '../../src/keep/imports/import-order.ts';
import type { ImportRequest, UploadPart } from '../../src/keep/imports/import-request.ts';
import { descriptionOf } from '../contracts/ingest-session.ts';

/** Limits that nothing small meets. */
export const IMPORT_LIMITS: ImportLimits = {
  uploadBytes: 1_000_000,
  imageBytes: 1_000_000,
  diskReserveBytes: 0,
  perAccount: 16,
  expiryMs: 3_600_000,
};

/** Asks for an image of whatever is sent. */
export const IMPORT_REQUEST: ImportRequest = {
  description: descriptionOf('web'),
  sha256: undefined,
  sizeBytes: undefined,
  format: undefined,
  freeSpace: 'keep',
  url: undefined,
  handover: undefined,
};

/** A file in one piece. */
export const WHOLE_UPLOAD: UploadPart = {
  offsetBytes: 0,
  totalBytes: undefined,
  isLast: true,
  partSha256: undefined,
  sha256: undefined,
};
