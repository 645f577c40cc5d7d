/** How a stream is compressed. */
export type Compression = 'none' | 'gzip' | 'xz' | 'zstd';

const EXTENSIONS = { none: '', gzip: '.gz', xz: '.xz', zstd: '.zst' } as const;

/** @returns what is added to a file's name: "", ".gz", ".xz" or ".zst" */
export function compressionExtension(compression: Compression): string {
  return EXTENSIONS[compression];
}

/** @returns the compression that this extension ("" included) stands for, or undefined */
export function compressionOfExtension(extension: string): Compression | undefined {
  const all: readonly Compression[] = ['none', 'gzip', 'xz', 'zstd'];
  return all.find((compression) => EXTENSIONS[compression] === extension);
}

/** Bytes that tell compressed streams apart; as many as {@link sniffCompression} needs. */
export const MAGIC_BYTES = 6;

/**
 * Tells by its first bytes how a stream is compressed.
 *
 * @param start the stream's first {@link MAGIC_BYTES} bytes, or all of it when it is shorter
 * @see RFC 1952, RFC 8878, the .xz file format 1.1.0
 */
export function sniffCompression(start: Uint8Array): Compression {
  const magic = Buffer.from(start.buffer, start.byteOffset, start.byteLength).toString('hex');
  // 08 is deflate, the only method of gzip there is.
  if (magic.startsWith('1f8b08')) return 'gzip';
  if (magic.startsWith('fd377a585a00')) return 'xz';
  if (magic.startsWith('28b52ffd')) return 'zstd';
  return 'none';
}
