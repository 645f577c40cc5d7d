import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createGunzip } from 'node:zlib';
import { IngotError } from '../../base/index.ts';

/** Checks a file's bytes while they pass, in order, from the first to the last. */
export interface ContentCheck {
  update(bytes: Buffer): Promise<void> | void;
  /**
   * @param plainSha256 digest of the plain disk
   * @throws IngotError `chunk-corrupt` when the bytes are not what they should be
   */
  end(plainSha256: string): Promise<void>;
}

/** Checks a raw disk by its digest. */
export function rawCheck(name: string): ContentCheck {
  const hash = createHash('sha256');
  return {
    update: (bytes) => {
      hash.update(bytes);
    },
    end: async (plainSha256) => compareDigest(hash.digest('hex'), { name, plainSha256 }),
  };
}

/**
 * Checks a gzip member: it must unpack, its CRC and length must hold, nothing may follow, and the
 * plain disk must have its digest.
 */
export function gzipCheck(name: string): ContentCheck {
  const hash = createHash('sha256');
  const gunzip = createGunzip({ chunkSize: 256 * 1024 });
  let broken: Error | undefined;
  gunzip.on('error', (error) => {
    broken = error;
  });
  gunzip.on('data', (plain: Buffer) => hash.update(plain));
  const ended = once(gunzip, 'end').then(
    () => undefined,
    (error: Error) => {
      broken = error;
    },
  );
  const check = (): void => {
    if (broken === undefined) return;
    throw new IngotError('chunk-corrupt', `${name} does not unpack`, {}, { cause: broken });
  };
  return {
    update: async (bytes) => {
      check();
      if (gunzip.write(bytes)) return;
      // An error ends the wait too; it is told in the words of the check below.
      await Promise.race([once(gunzip, 'drain').catch(() => undefined), ended]);
      check();
    },
    end: async (plainSha256) => {
      gunzip.end();
      await ended;
      check();
      compareDigest(hash.digest('hex'), { name, plainSha256 });
    },
  };
}

function compareDigest(
  found: string,
  { name, plainSha256 }: { readonly name: string; readonly plainSha256: string },
): void {
  if (plainSha256 === found) return;
  throw new IngotError('chunk-corrupt', `${name} has the digest ${found}, not ${plainSha256}`, {
    found,
    expected: plainSha256,
  });
}
