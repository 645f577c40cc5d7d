import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createGunzip } from 'node:zlib';
import { IngotError } from '../../base/index.ts';

/** Checks a file's bytes while they pass, in order, from the first to the last. */
export interface ContentCheck {
  update(bytes: Buffer): Promise<void> | void;
  /** @throws IngotError `chunk-corrupt` when the bytes are not what they should be */
  end(): Promise<void>;
}

/** What is checked: the image, for messages, and the digest of its plain disk where it is known. */
export interface Expected {
  readonly name: string;
  readonly plainSha256: string | undefined;
}

/** Checks a raw disk by its digest. */
export function rawCheck({ name, plainSha256 }: Expected): ContentCheck {
  const hash = createHash('sha256');
  return {
    update: (bytes) => {
      hash.update(bytes);
    },
    end: async () => compareDigest(hash.digest('hex'), { name, plainSha256 }),
  };
}

/**
 * Checks a gzip member: it must unpack, its CRC and length must hold, nothing may follow, and the
 * plain disk must have its digest where that is known.
 */
export function gzipCheck(expected: Expected): ContentCheck {
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
    throw new IngotError(
      'chunk-corrupt',
      `${expected.name} does not unpack`,
      {},
      { cause: broken },
    );
  };
  return {
    update: async (bytes) => {
      check();
      if (!gunzip.write(bytes)) await Promise.race([once(gunzip, 'drain'), ended]);
    },
    end: async () => {
      gunzip.end();
      await ended;
      check();
      compareDigest(hash.digest('hex'), expected);
    },
  };
}

function compareDigest(found: string, { name, plainSha256 }: Expected): void {
  if (plainSha256 === undefined || plainSha256 === found) return;
  throw new IngotError('chunk-corrupt', `${name} has the digest ${found}, not ${plainSha256}`, {
    found,
    expected: plainSha256,
  });
}
