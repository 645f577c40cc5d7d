export type { ByteReader } from './byte-reader.ts';
export { combineCrc32, crc32OfZeros } from './crc32-combine.ts';
export { type Extent, type FileExtents, mergeExtents, totalBytes } from './extent.ts';
export {
  type DiskMap,
  type DiskMapOptions,
  type DiskPartition,
  readDiskMap,
} from './filesystems/disk-map.ts';
export type { DiskState } from './filesystems/filesystem-map.ts';
export { MAX_CHUNK_BYTES, MAX_CODED_BYTES, type Segment } from './segment.ts';
