import { IngotError } from '../../base/index.ts';
import {
  type Extent,
  encodePullFileHead,
  encodePullRecord,
  PULL_FILE_HEAD_BYTES,
  PULL_RECORD_HEAD_BYTES,
  parsePullFileHead,
  parsePullRecord,
  parsePullRecordHead,
} from '../../bytes/index.ts';

/** Where a mirror keeps what came over: added at the end, read anywhere. */
export interface MirrorSpool extends AsyncDisposable {
  /** What it holds from an earlier run when it is opened; undefined: it never holds any. */
  readonly sizeBytes?: number;
  /** @throws IngotError `target-full` */
  append(bytes: Uint8Array): Promise<void>;
  /** @returns exactly these bytes */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  /** Drops what lies behind an offset; bytes are added there then. */
  truncate?(sizeBytes: number): Promise<void>;
  /** Removes it for good: nobody will go on with it. */
  remove?(): Promise<void>;
}

/** A frame in a spool. */
export interface SpooledFrame {
  readonly ranges: readonly Extent[];
  readonly frameOffsetBytes: number;
  readonly frameBytes: number;
}

/**
 * A spool as a file of frames, each with the ranges that it has, so that another run can go on.
 *
 * @see docs/formats/pull-protocol.md "The pull file"
 */
export class SpoolRecords {
  readonly #spool: MirrorSpool;
  #endBytes = 0;

  constructor(spool: MirrorSpool) {
    this.#spool = spool;
  }

  /**
   * Begins the file, or reads what an earlier run left there, up to a record that is not whole.
   *
   * @param sizeBytes of the disk
   * @throws IngotError `request-invalid` for a file that is something else
   */
  async open(sizeBytes: number): Promise<readonly SpooledFrame[]> {
    const leftBytes = this.#spool.sizeBytes ?? 0;
    if (leftBytes === 0) {
      await this.#append(encodePullFileHead(sizeBytes));
      return [];
    }
    if (leftBytes < PULL_FILE_HEAD_BYTES) throw foreign('it is no file of a pull');
    const found = parsePullFileHead(await this.#spool.read(0, PULL_FILE_HEAD_BYTES));
    if (found === undefined) throw foreign('it is no file of a pull');
    if (found !== sizeBytes) {
      throw foreign(`it is of a disk of ${found} bytes, and this one has ${sizeBytes}`);
    }
    this.#endBytes = PULL_FILE_HEAD_BYTES;
    const frames: SpooledFrame[] = [];
    for (;;) {
      const frame = await this.#frameAt(this.#endBytes, { sizeBytes, leftBytes });
      if (frame === undefined) break;
      frames.push(frame);
      this.#endBytes = frame.frameOffsetBytes + frame.frameBytes;
    }
    await this.#spool.truncate?.(this.#endBytes);
    return frames;
  }

  /** @throws IngotError `target-full` */
  async add(ranges: readonly Extent[], frame: Uint8Array): Promise<SpooledFrame> {
    await this.#append(encodePullRecord(ranges, frame.length));
    const frameOffsetBytes = this.#endBytes;
    await this.#append(frame);
    return { ranges, frameOffsetBytes, frameBytes: frame.length };
  }

  read({ frameOffsetBytes, frameBytes }: SpooledFrame): Promise<Buffer> {
    return this.#spool.read(frameOffsetBytes, frameBytes);
  }

  async #append(bytes: Uint8Array): Promise<void> {
    await this.#spool.append(bytes);
    this.#endBytes += bytes.length;
  }

  async #frameAt(
    at: number,
    { sizeBytes, leftBytes }: { readonly sizeBytes: number; readonly leftBytes: number },
  ): Promise<SpooledFrame | undefined> {
    if (at + PULL_RECORD_HEAD_BYTES > leftBytes) return undefined;
    const head = parsePullRecordHead(await this.#spool.read(at, PULL_RECORD_HEAD_BYTES));
    if (head === undefined) return undefined;
    const recordBytes = PULL_RECORD_HEAD_BYTES + head.rangesBytes;
    const frameOffsetBytes = at + recordBytes;
    if (frameOffsetBytes + head.frameBytes > leftBytes) return undefined;
    const ranges = parsePullRecord(await this.#spool.read(at, recordBytes), sizeBytes);
    if (ranges === undefined) return undefined;
    return { ranges, frameOffsetBytes, frameBytes: head.frameBytes };
  }
}

function foreign(reason: string): IngotError {
  return new IngotError('request-invalid', `the pull cannot go on with this file: ${reason}`);
}
