import { IngotError } from '../base/index.ts';

/** Forms of a disk image; the names are those of qemu-img. */
export const DISK_FORMATS = ['raw', 'qcow2', 'vmdk', 'vdi', 'vhdx', 'vpc'] as const;

/** One of {@link DISK_FORMATS}. */
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** Bytes from the start of a file that tell its form and what its header refers to. */
export const DISK_HEADER_BYTES = 512;

const VDI_SIGNATURE = 0xbeda107f;
const SECTOR_BYTES = 512;
/** qcow2 images of `qemu-img` have 64 KiB; clusters of 512 bytes to 2 MiB are allowed. */
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
/** A bit of the features that a reader must know: the data lies in another file. */
const QCOW2_DATA_FILE = 1 << 2;

/**
 * Tells the form of a disk image by its first bytes. A fixed VHD has its only mark at its end, and
 * is raw by its first bytes.
 *
 * @param header the first {@link DISK_HEADER_BYTES}, or all of a shorter file
 * @see docs/imports.md
 */
export function sniffDiskFormat(header: Uint8Array): DiskFormat {
  const bytes = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  const text = bytes.toString('latin1');
  if (text.startsWith('QFI\xfb')) return 'qcow2';
  if (text.startsWith('KDMV') || text.startsWith('# Disk DescriptorFile')) return 'vmdk';
  if (text.startsWith('vhdxfile')) return 'vhdx';
  if (text.startsWith('conectix')) return 'vpc';
  if (bytes.byteLength >= 68 && bytes.readUInt32LE(64) === VDI_SIGNATURE) return 'vdi';
  return 'raw';
}

/**
 * Refuses an image whose header refers to another file, is encrypted, or promises an absurd disk.
 *
 * A first look, before any other program sees the file; {@link checkImageInfo} is the second.
 *
 * @throws IngotError `source-unsupported`, `request-too-large`
 */
export function checkDiskHeader(
  format: DiskFormat,
  header: Uint8Array,
  {
    name,
    fileBytes,
    maxDiskBytes,
  }: { readonly name: string; readonly fileBytes: number; readonly maxDiskBytes: number },
): void {
  const bytes = Buffer.alloc(DISK_HEADER_BYTES);
  bytes.set(header.subarray(0, DISK_HEADER_BYTES));
  const refuse = (reason: string): never => {
    throw new IngotError('source-unsupported', `${name} ${reason}`, { format });
  };
  if (format !== 'vpc' && format !== 'raw' && sniffDiskFormat(header) !== format) {
    refuse(`is no ${format}`);
  }
  let sizeBytes = 0n;
  switch (format) {
    case 'qcow2':
      sizeBytes = bytes.readBigUInt64BE(24);
      checkQcow2(bytes, refuse);
      break;
    case 'vmdk':
      if (!bytes.toString('latin1').startsWith('KDMV')) refuse('only names other files');
      sizeBytes = bytes.readBigUInt64LE(12) * BigInt(SECTOR_BYTES);
      // Without a capacity of its own, the descriptor inside tells which files have the disk.
      if (sizeBytes === 0n) refuse('only names other files');
      break;
    case 'vdi':
      sizeBytes = bytes.readBigUInt64LE(0x170);
      // A differencing image: links to the image below it.
      if (bytes.subarray(0x1a8, 0x1c8).some((byte) => byte !== 0)) refuse('has a parent image');
      // The one form whose tables qemu-img does not compare with the file's length.
      if (vdiBytes(bytes) > fileBytes) refuse(`has ${fileBytes} of its ${vdiBytes(bytes)} bytes`);
      break;
    case 'vpc':
      if (bytes.toString('latin1', 0, 8) === 'conectix') {
        sizeBytes = bytes.readBigUInt64BE(48);
        if (bytes.readUInt32BE(60) === 4) refuse('has a parent image');
      }
      break;
    case 'vhdx':
    case 'raw':
      break;
  }
  checkSize(Number(sizeBytes), { name, maxDiskBytes });
}

/** Where the last block of a VDI ends: the data's offset, the blocks' size, how many there are. */
function vdiBytes(header: Buffer): number {
  return header.readUInt32LE(0x158) + header.readUInt32LE(0x178) * header.readUInt32LE(0x184);
}

function checkQcow2(bytes: Buffer, refuse: (reason: string) => never): void {
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) refuse(`has version ${version}`);
  if (bytes.readBigUInt64BE(8) !== 0n) refuse('has a backing file');
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    refuse(`has clusters of 2^${clusterBits} bytes`);
  }
  if (bytes.readUInt32BE(32) !== 0) refuse('is encrypted');
  // An L1 entry of 8 bytes maps a cluster of L2 entries: more of them than the disk needs are a lie.
  const l1Bytes = BigInt(bytes.readUInt32BE(36)) * 8n;
  const mappedByEntry = 2n ** BigInt(2 * clusterBits - 3);
  const neededBytes = (bytes.readBigUInt64BE(24) / mappedByEntry + 1n) * 8n;
  if (l1Bytes > neededBytes * 2n + 65_536n) refuse('has a table that is too large for its disk');
  if (version === 3 && (bytes.readUInt32BE(76) & QCOW2_DATA_FILE) !== 0) {
    refuse('keeps its data in another file');
  }
}

/** What `qemu-img info --output=json` says, as far as it is looked at; it may be anything. */
interface ImageInfo {
  readonly 'virtual-size'?: unknown;
  readonly format?: unknown;
  readonly encrypted?: unknown;
  readonly 'backing-filename'?: unknown;
  readonly 'full-backing-filename'?: unknown;
  readonly 'format-specific'?: { readonly data?: Readonly<Record<string, unknown>> };
}

/**
 * Checks what qemu-img found in an image.
 *
 * @param json its output
 * @param inputPath the one file that the image may consist of
 * @returns size of the disk
 * @throws IngotError `source-unsupported`, `request-too-large`
 */
export function checkImageInfo(
  json: string,
  {
    name,
    format,
    inputPath,
    maxDiskBytes,
  }: {
    readonly name: string;
    readonly format: DiskFormat;
    readonly inputPath: string;
    readonly maxDiskBytes: number;
  },
): number {
  const refuse = (reason: string): never => {
    throw new IngotError('source-unsupported', `${name} ${reason}`, { format });
  };
  let info: ImageInfo = {};
  try {
    info = JSON.parse(json) as ImageInfo;
  } catch {
    refuse('cannot be described');
  }
  const data = info['format-specific']?.data ?? {};
  if (info.format !== format) refuse(`is no ${format}`);
  if (info.encrypted === true || data['encrypt'] !== undefined) refuse('is encrypted');
  if (info['backing-filename'] !== undefined || info['full-backing-filename'] !== undefined) {
    refuse('has a backing file');
  }
  if (data['data-file'] !== undefined) refuse('keeps its data in another file');
  if (data['corrupt'] === true) refuse('is marked as corrupt');
  const extents = Array.isArray(data['extents']) ? data['extents'] : [];
  for (const extent of extents as { readonly filename?: unknown }[]) {
    if (extent.filename !== inputPath) refuse('names other files');
  }
  const sizeBytes = info['virtual-size'];
  if (typeof sizeBytes !== 'number' || !(sizeBytes > 0)) return refuse('has no size');
  checkSize(sizeBytes, { name, maxDiskBytes });
  return sizeBytes;
}

function checkSize(
  sizeBytes: number,
  { name, maxDiskBytes }: { readonly name: string; readonly maxDiskBytes: number },
): void {
  if (sizeBytes <= maxDiskBytes) return;
  throw new IngotError(
    'request-too-large',
    `${name} is a disk of ${sizeBytes} bytes; at most ${maxDiskBytes} are taken`,
    { sizeBytes, maxDiskBytes },
  );
}
