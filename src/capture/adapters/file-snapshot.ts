import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, IngotError } from '../../base/index.ts';
import { type ByteReader, type DiskMap, type Extent, mergeExtents } from '../../bytes/index.ts';
import type { ReadMap } from '../disk-snapshot.ts';
import type { CaptureFacts, SnapshotPass, SnapshotSource } from '../snapshot-source.ts';
import { CacheSparingFile } from './cache-sparing-file.ts';
import { nextData } from './libc.ts';

/** A file with more runs of data than this is read as one: the list stays small. */
const MAX_DATA_RUNS = 1_000_000;

function dataExtents(fd: number, sizeBytes: number): Extent[] {
  const extents: Extent[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const run = nextData(fd, at);
    if (run === undefined) break;
    const end = Math.min(run.end, sizeBytes);
    extents.push({ offsetBytes: run.start, lengthBytes: end - run.start });
    if (extents.length > MAX_DATA_RUNS) return [{ offsetBytes: 0, lengthBytes: sizeBytes }];
    at = end;
  }
  return mergeExtents(extents);
}

/** @returns what lies in both, ascending; both must be ascending and merged */
function intersectExtents(a: readonly Extent[], b: readonly Extent[]): Extent[] {
  const both: Extent[] = [];
  let j = 0;
  for (const one of a) {
    const oneEnd = one.offsetBytes + one.lengthBytes;
    for (; j < b.length; j += 1) {
      const two = b[j];
      if (two === undefined || two.offsetBytes >= oneEnd) break;
      const twoEnd = two.offsetBytes + two.lengthBytes;
      const start = Math.max(one.offsetBytes, two.offsetBytes);
      const end = Math.min(oneEnd, twoEnd);
      if (end > start) both.push({ offsetBytes: start, lengthBytes: end - start });
      if (twoEnd > oneEnd) break;
    }
  }
  return both;
}

/** An image file as a {@link SnapshotSource}; its holes stay holes, its bytes stay as they are. */
class FileSnapshot implements SnapshotSource {
  readonly sizeBytes: number;
  readonly mayChange = false;
  readonly #handle: FileHandle;
  readonly #sparing: CacheSparingFile;
  readonly #name: string;
  readonly #readMap: ReadMap;
  readonly #freeSpace: 'zero' | 'keep';
  readonly #version: string;
  #map: DiskMap | undefined;
  #isPassOpen = false;

  constructor(setup: {
    readonly handle: FileHandle;
    readonly sparing: CacheSparingFile;
    readonly name: string;
    readonly sizeBytes: number;
    readonly version: string;
    readonly readMap: ReadMap;
    readonly freeSpace: 'zero' | 'keep';
  }) {
    this.#handle = setup.handle;
    this.#sparing = setup.sparing;
    this.#name = setup.name;
    this.sizeBytes = setup.sizeBytes;
    this.#version = setup.version;
    this.#readMap = setup.readMap;
    this.#freeSpace = setup.freeSpace;
  }

  async pass(kind: 'live' | 'frozen'): Promise<SnapshotPass> {
    if (this.#isPassOpen) throw new Error('a pass is open already');
    const reader: ByteReader = {
      sizeBytes: this.sizeBytes,
      read: (offsetBytes, lengthBytes) => this.#read(offsetBytes, lengthBytes),
    };
    const map = await this.#readMap(reader, 'at-rest');
    this.#map = map;
    const data = dataExtents(this.#handle.fd, this.sizeBytes);
    this.#isPassOpen = true;
    return {
      ...reader,
      readInto: (offsetBytes, target) => this.#readInto(offsetBytes, target),
      kind,
      extents: this.#freeSpace === 'keep' ? data : intersectExtents(data, map.allocated),
      fileExtents: map.fileExtents,
      originBytes: map.originBytes,
      end: () => {
        this.#isPassOpen = false;
        return kind === 'frozen' ? this.#checkUnchanged() : Promise.resolve();
      },
    };
  }

  facts(): CaptureFacts {
    return {
      consistency: 'crash-consistent',
      freezeMs: 0,
      filesystem: this.#map?.filesystem,
      source: this.#name,
      freeSpace: this.#freeSpace,
    };
  }

  notices(): readonly string[] {
    return this.#map?.notices ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sparing[Symbol.asyncDispose]();
    await this.#handle.close();
  }

  async #read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#mustBeInside(offsetBytes, lengthBytes);
    const bytes = Buffer.allocUnsafe(lengthBytes);
    await this.#readInto(offsetBytes, bytes);
    return bytes;
  }

  #mustBeInside(offsetBytes: number, lengthBytes: number): void {
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes)) {
      throw new IngotError(
        'source-truncated',
        `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are outside ${this.#name} of ${this.sizeBytes} bytes`,
      );
    }
  }

  async #readInto(offsetBytes: number, target: Buffer): Promise<void> {
    const lengthBytes = target.byteLength;
    this.#mustBeInside(offsetBytes, lengthBytes);
    for (let done = 0; done < lengthBytes; ) {
      const bytesRead = await this.#sparing
        .readInto(target.subarray(done), offsetBytes + done)
        .catch((thrown: unknown) => {
          throw new IngotError(
            'source-unreadable',
            `${this.#name} gave ${errnoOf(thrown)} at byte ${offsetBytes + done}`,
            {},
            { cause: thrown },
          );
        });
      if (bytesRead === 0) {
        throw new IngotError('source-truncated', `${this.#name} became shorter while it was read`);
      }
      done += bytesRead;
    }
  }

  async #checkUnchanged(): Promise<void> {
    if ((await versionOf(this.#handle)) !== this.#version) {
      throw new IngotError('source-unreadable', `${this.#name} changed while it was read`);
    }
  }
}

/** Changes with every write to the file, as far as its timestamps tell. */
async function versionOf(handle: FileHandle): Promise<string> {
  const { size, mtimeNs, ino } = await handle.stat({ bigint: true });
  return `${ino}:${size}:${mtimeNs}`;
}

/**
 * Opens an image file as a source. It is kept verbatim unless `freeSpace` is `zero`.
 *
 * @throws IngotError `source-not-found`, `source-unreadable`
 */
export async function openFileSnapshot({
  path,
  name = path,
  freeSpace,
  readMap,
}: {
  readonly path: string;
  /** How people know it, when the path is a spool's. */
  readonly name?: string;
  readonly freeSpace: 'zero' | 'keep';
  readonly readMap: ReadMap;
}): Promise<SnapshotSource> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (thrown) {
    const errno = errnoOf(thrown);
    const code = errno === 'ENOENT' ? 'source-not-found' : 'source-unreadable';
    throw new IngotError(code, `${name} cannot be opened: ${errno}`, {}, { cause: thrown });
  }
  const { size } = await handle.stat();
  return new FileSnapshot({
    handle,
    sparing: await CacheSparingFile.open(handle),
    name,
    sizeBytes: size,
    version: await versionOf(handle),
    readMap,
    freeSpace,
  });
}
