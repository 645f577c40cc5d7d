import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, crc32, deflateRaw, inflateRaw } from 'node:zlib';
import { type Id, IngotError, silentLog, systemClock } from '../../src/base/index.ts';
import { DirectoryDisk } from '../../src/keep/adapters/directory-disk.ts';
import { openSqliteCatalogue } from '../../src/keep/adapters/sqlite-catalogue.ts';
import { openChunkWorkers } from '../../src/keep/adapters/thread-chunk-workers.ts';
import { ZLIB_NAME } from '../../src/keep/adapters/zlib-segment-engine.ts';
import {
  type AccountLibrary,
  type ChunkWorkers,
  DirectoryLibrary,
  type LibraryParts,
  type OpenChunk,
  type SegmentCodec,
} from '../../src/keep/index.ts';

const deflate = promisify(deflateRaw);

/** A small codec over Node's zlib that keeps what the port promises. */
const testCodec: SegmentCodec = {
  name: 'test-1',
  crc32: (bytes) => crc32(bytes),
  encode: (plain) => deflate(plain, { level: 1, finishFlush: constants.Z_SYNC_FLUSH }),
  async decode(coded, plainBytes) {
    try {
      // With a final empty block behind it a segment is a whole stream: a half one is none.
      const whole = Buffer.concat([coded, Buffer.from([3, 0])]);
      const result = await new Promise<{ buffer: Buffer; engine: { bytesWritten: number } }>(
        (resolve, reject) => {
          const options = { info: true, maxOutputLength: plainBytes + 1 };
          inflateRaw(whole, options, (error, buffer) => {
            if (error === null)
              resolve(buffer as unknown as { buffer: Buffer; engine: { bytesWritten: number } });
            else reject(error);
          });
        },
      );
      if (result.buffer.length === plainBytes && result.engine.bytesWritten === whole.length) {
        return result.buffer;
      }
      throw new IngotError('segment-malformed', `it yields ${result.buffer.length} bytes`);
    } catch (cause) {
      if (cause instanceof IngotError) throw cause;
      throw new IngotError('segment-malformed', 'it is no deflate', {}, { cause });
    }
  },
};

/** Threads of this process that check what is put; they end with it. */
export const testWorkers: ChunkWorkers = openChunkWorkers(ZLIB_NAME);

export const ACCOUNT: Id<'acc'> = 'acc-aaaaa';
export const FOREIGN: Id<'acc'> = 'acc-bbbbb';

/** What a library in a real directory is opened with. */
export function partsIn(folder: string, changes: Partial<LibraryParts> = {}): LibraryParts {
  return {
    disk: new DirectoryDisk(folder),
    openCatalogue: (options) => openSqliteCatalogue(folder, options),
    codec: testCodec,
    workers: testWorkers,
    clock: systemClock,
    log: silentLog,
    ...changes,
    limits: { reserveBytes: 0, quietMs: 0, ...changes.limits },
  };
}

/** In memory where the system has such a folder: these tests are not about the disk. */
const TEMPORARY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A library in a temporary directory; disposal closes and removes it. */
export interface TestLibrary extends AsyncDisposable {
  readonly folder: string;
  readonly library: DirectoryLibrary;
  readonly account: AccountLibrary;
  /** Closes and opens again, with other parts where they are given. */
  reopen(changes?: Partial<LibraryParts>): Promise<void>;
  /** Closes; `work` may change the directory; opens again. */
  whileClosed(work: (folder: string) => Promise<void>): Promise<void>;
}

export async function openTestLibrary(changes: Partial<LibraryParts> = {}): Promise<TestLibrary> {
  const folder = await mkdtemp(join(TEMPORARY, 'ingot-library-'));
  let library = await DirectoryLibrary.open(partsIn(folder, changes));
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await library[Symbol.asyncDispose]();
    isOpen = false;
  };
  const reopen = async (others: Partial<LibraryParts> = {}): Promise<void> => {
    await close();
    library = await DirectoryLibrary.open(partsIn(folder, { ...changes, ...others }));
    isOpen = true;
  };
  return {
    folder,
    get library() {
      return library;
    },
    get account() {
      return library.forAccount(ACCOUNT);
    },
    reopen,
    async whileClosed(work) {
      await close();
      await work(folder);
      await reopen();
    },
    async [Symbol.asyncDispose]() {
      try {
        await close();
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

/** Reads a whole disk back: for small images only. */
export async function readDisk(account: AccountLibrary, imageId: string): Promise<Buffer> {
  await using image = await account.open(imageId);
  const parts: Buffer[] = [];
  for (let index = 0; index < image.pages.length; index++) {
    const entries = await image.page(index);
    const chunks = entries.filter((entry): entry is OpenChunk => entry.kind === 'chunk');
    const coded = await image.readCoded(chunks);
    let next = 0;
    for (const entry of entries) {
      if (entry.kind === 'hole') parts.push(Buffer.alloc(entry.lengthBytes));
      else parts.push(await testCodec.decode(coded[next++] as Buffer, entry.lengthBytes));
    }
  }
  return Buffer.concat(parts);
}
