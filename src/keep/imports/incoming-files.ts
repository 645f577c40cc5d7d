import { type Digest, type Id, IngotError, MIB } from '../../base/index.ts';
import type { Traffic } from '../library/traffic.ts';
import type { ImportLimits } from './import-order.ts';
import { RunningDigest } from './incoming-bytes.ts';
import type { UploadFile, UploadSpool } from './upload-spool.ts';

/** Bytes between two looks at the free space of the disk. */
const LOOK_EVERY_BYTES = 64 * MIB;

/** Puts bytes on the disk while they arrive, within the limits, and knows their digests. */
export class IncomingFiles {
  readonly #spool: UploadSpool;
  readonly #limits: ImportLimits;
  readonly #traffic: Pick<Traffic, 'touch'>;
  readonly #digests = new Map<Id<'img'>, RunningDigest>();

  constructor(spool: UploadSpool, limits: ImportLimits, traffic: Pick<Traffic, 'touch'>) {
    this.#traffic = traffic;
    this.#spool = spool;
    this.#limits = limits;
  }

  /** @throws IngotError `request-too-large`, `library-full` */
  async checkRoom(haveBytes: number, wantBytes: number): Promise<void> {
    const { uploadBytes, diskReserveBytes } = this.#limits;
    if (wantBytes > uploadBytes) {
      throw new IngotError(
        'request-too-large',
        `an upload has at most ${uploadBytes} bytes, not ${wantBytes}`,
        { limitBytes: uploadBytes },
      );
    }
    const freeBytes = await this.#spool.freeBytes();
    if (freeBytes - (wantBytes - haveBytes) >= diskReserveBytes) return;
    throw new IngotError(
      'library-full',
      `the disk has ${freeBytes} bytes free, of which ${diskReserveBytes} stay free`,
      { freeBytes, diskReserveBytes },
    );
  }

  /**
   * Adds bytes behind those that are there; what was added before a failure stays, and is durable.
   *
   * @param options `isHashed` keeps the digest of all bytes up to date
   * @returns digest of the bytes that were added, when `isPartHashed`
   */
  async append(
    imageId: Id<'img'>,
    body: AsyncIterable<Buffer>,
    options: {
      readonly totalBytes: number | undefined;
      readonly isHashed: boolean;
      readonly isPartHashed?: boolean;
      readonly onBytes?: (sizeBytes: number) => void;
    },
  ): Promise<Digest | undefined> {
    const startByte = await this.#spool.sizeOf(imageId);
    const whole = options.isHashed ? await this.#digestUpTo(imageId, startByte) : undefined;
    const part = options.isPartHashed === true ? new RunningDigest() : undefined;
    try {
      await using file = await this.#spool.append(imageId);
      try {
        for await (const bytes of this.#withRoom(body, file, options.totalBytes)) {
          this.#traffic.touch();
          await file.append(bytes);
          whole?.update(bytes);
          part?.update(bytes);
          options.onBytes?.(file.sizeBytes);
        }
      } finally {
        await file.datasync();
      }
    } catch (thrown) {
      // What was written and what was hashed may differ by a piece.
      this.forget(imageId);
      throw thrown;
    }
    return part?.value();
  }

  /** Takes back what lies behind the first `sizeBytes`. */
  async truncate(imageId: Id<'img'>, sizeBytes: number): Promise<void> {
    await this.#spool.truncate(imageId, sizeBytes);
    this.forget(imageId);
  }

  /** @throws IngotError `source-digest-mismatch` when the bytes have another digest */
  async checkDigest(imageId: Id<'img'>, expected: Digest | undefined): Promise<void> {
    if (expected === undefined) return;
    const digest = await this.#digestUpTo(imageId, await this.#spool.sizeOf(imageId));
    if (digest.value() !== expected) throw digestMismatch('the upload', digest.value(), expected);
  }

  /** Lets go of what is known of a file's digest. */
  forget(imageId: Id<'img'>): void {
    this.#digests.delete(imageId);
  }

  /** Passes bytes on as long as they may be kept. */
  async *#withRoom(
    body: AsyncIterable<Buffer>,
    file: UploadFile,
    totalBytes: number | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const limitBytes = totalBytes ?? this.#limits.uploadBytes;
    let lookAt = file.sizeBytes + LOOK_EVERY_BYTES;
    for await (const bytes of body) {
      const sizeBytes = file.sizeBytes + bytes.byteLength;
      if (sizeBytes > limitBytes) {
        throw new IngotError('request-too-large', `the upload has more than ${limitBytes} bytes`, {
          limitBytes,
        });
      }
      if (sizeBytes >= lookAt) {
        await this.checkRoom(file.sizeBytes, sizeBytes);
        lookAt = sizeBytes + LOOK_EVERY_BYTES;
      }
      yield bytes;
    }
  }

  /** The digest of what was received so far; what this process has not hashed is read again. */
  async #digestUpTo(imageId: Id<'img'>, sizeBytes: number): Promise<RunningDigest> {
    const known = this.#digests.get(imageId);
    if (known?.countBytes === sizeBytes) return known;
    const digest = new RunningDigest();
    if (sizeBytes > 0) {
      for await (const bytes of this.#spool.read(imageId)) digest.update(bytes);
    }
    this.#digests.set(imageId, digest);
    return digest;
  }
}

/** The failure of bytes that are not those that were meant. */
export function digestMismatch(what: string, found: Digest, expected: Digest): IngotError {
  return new IngotError(
    'source-digest-mismatch',
    `${what} has the digest ${found}, not ${expected}`,
    { found, expected },
  );
}
