export type {
  Caller,
  ImageForm,
  NativeBackend,
  NativeClients,
  NativeUpkeep,
} from './native/backend.ts';
export {
  clientListSchema,
  clientSchema,
  newClientSchema,
  type WireClient,
} from './native/client-wire.ts';
export {
  type FailureAnswer,
  failureAnswer,
  failureSchema,
  nothingHere,
  type WireFailure,
} from './native/failure-answer.ts';
export { digestSchema, imageChangeSchema, imagePageSchema } from './native/image-routes.ts';
export { imageFromWire, imageSchema, type WireImage } from './native/image-wire.ts';
export { createImportSchema, handoverSchema, importSchema } from './native/import-wire.ts';
export { BYTES_MEDIA_TYPE, decodeBitmap, MAX_HAVE } from './native/ingest-routes.ts';
export { descriptionToWire } from './native/ingest-wire.ts';
export { jobSchema, statsSchema, type WireJob } from './native/job-wire.ts';
export { encodeManifest, MANIFEST_MEDIA_TYPE } from './native/manifest-stream.ts';
export {
  outputEventSchema,
  type WireOutputEvent,
  type WireOutputOrder,
} from './native/output-wire.ts';
export { NATIVE_PREFIX } from './native/prefix.ts';
export { decodePage, decodePages, encodeIndices } from './native/read-wire.ts';
export type { NativeMetrics } from './native/routes.ts';
export { decodeSegments, encodeSegments, SEGMENTS_MEDIA_TYPE } from './native/segment-frames.ts';

/** Loads the native API: clients, which know only its wire forms, start without a web server. */
export async function loadNativeApi() {
  return (await import('./native/plugin.ts')).nativeApi;
}
