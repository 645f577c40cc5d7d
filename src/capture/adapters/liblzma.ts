import { Compressor } from '@napi-rs/lzma/xz';
import koffi from 'koffi';

/** Half the size of level 6 and 17 MiB of memory in place of 94. @see xz(1) "Memory usage" */
const PRESET = 2;
/** @see lzma/check.h LZMA_CHECK_CRC64: what xz itself writes */
const CHECK_CRC64 = 4;

/** Compresses one piece into a whole `.xz` stream. */
export type XzEncode = (plain: Uint8Array) => Promise<Uint8Array>;

/**
 * Loads liblzma, which dpkg needs and every Debian has.
 *
 * @returns undefined where it is not there
 * @see lzma/container.h lzma_easy_buffer_encode, lzma_stream_buffer_bound
 */
function loadLiblzma(): XzEncode | undefined {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load('liblzma.so.5');
  } catch {
    return undefined; // The portable encoder does the same, slower.
  }
  const bound = library.func('size_t lzma_stream_buffer_bound(size_t plain)');
  const encode = library.func(
    'int lzma_easy_buffer_encode(uint32_t preset, int check, void *allocator, void *plain, size_t plainBytes, void *coded, size_t *codedAt, size_t codedBytes)',
  );
  return (plain) =>
    new Promise((resolve, reject) => {
      const coded = Buffer.allocUnsafeSlow(Number(bound(plain.length)));
      const used = Buffer.alloc(8);
      const settle = (error: Error | null, result: number): void => {
        if (error !== null) reject(error);
        else if (result !== 0) reject(new Error(`liblzma answered ${result}`));
        else resolve(coded.subarray(0, Number(used.readBigUInt64LE())));
      };
      const sizes = [PRESET, CHECK_CRC64, null, plain, plain.length] as const;
      encode.async(...sizes, coded, used, coded.length, settle);
    });
}

/**
 * Gives an encoder that needs no library of the system. One piece is coded at a time: each takes
 * 20 MiB, and the memory comes back late.
 */
export function portableXzEncoder(): XzEncode {
  let last: Promise<unknown> = Promise.resolve();
  return (plain) => {
    const coded = last.then(async () => {
      const encoder = new Compressor({ preset: PRESET });
      const start = Buffer.from(encoder.update(plain));
      return Buffer.concat([start, await encoder.finish()]);
    });
    last = coded.catch(() => undefined);
    return coded;
  };
}

/** @returns an encoder of `.xz` streams: liblzma, or a portable one that is slower */
export function xzEncoder(): XzEncode {
  return loadLiblzma() ?? portableXzEncoder();
}

/** A whole `.xz` stream of nothing: twelve bytes each of header and footer, and an empty index. */
export const EMPTY_XZ_STREAM: Uint8Array = Buffer.from(
  '/Td6WFoAAATm1rRGAAAAABzfRCEftvN9AQAAAAAEWVo=',
  'base64',
);
