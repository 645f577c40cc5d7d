import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { type Clock, digestOf, silentLog } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import { memoryCatalogue } from '../../src/keep/adapters/sqlite-catalogue.ts';
import {
  type AccountLibrary,
  type Catalogue,
  DirectoryLibrary,
  type LibraryLimits,
  type OpenChunk,
  type SegmentCodec,
} from '../../src/keep/index.ts';
import { ACCOUNT } from '../contracts/test-library.ts';
import { codecWorkers } from '../fakes/codec-workers.ts';
import { SimulatedDisk, SimulatedMachine } from './simulated-disk.ts';

/** Calls of the catalogue that change nothing. */
export const CATALOGUE_READS: ReadonlySet<string> = new Set([
  'accounts',
  'chunksOfPack',
  'counts',
  'image',
  'imagePages',
  'images',
  'importOrder',
  'importOrders',
  'isIndexIncomplete',
  'job',
  'jobs',
  'lastJob',
  'locate',
  'packUsage',
  'packs',
  'pages',
  'placesFor',
  'unknownPages',
  'unreferenced',
]);

/**
 * Stores bytes as they are: these tests are about writes, not about deflate. What follows the plain
 * bytes means nothing, so that a chunk can be coded in several ways.
 */
const plainCodec: SegmentCodec = {
  name: 'plain',
  crc32: (bytes) => crc32(bytes),
  encode: async (plain) => Buffer.from(plain),
  decode: async (coded, plainBytes) => Buffer.from(coded.subarray(0, plainBytes)),
};

/** Time that stands still while a process runs: nothing expires, and nothing runs by itself. */
const stillClock = (now: number): Clock => ({
  now: () => now,
  monotonic: () => 0,
  sleep: (_ms, signal) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
    }),
});

/** A chunk that the plain codec takes. */
export function plainSegment(seed: number, lengthBytes: number): Segment {
  const coded = Buffer.alloc(lengthBytes, `${seed} is the seed of this chunk; `);
  const crc = crc32(coded);
  return {
    digest: digestOf(coded),
    plainBytes: lengthBytes,
    plainCrc32: crc,
    codedCrc32: crc,
    coded,
  };
}

/** The same chunk as another engine might have coded it. */
export function recoded(segment: Segment): Segment {
  const coded = Buffer.concat([segment.coded, Buffer.from('coded again')]);
  return { ...segment, coded, codedCrc32: crc32(coded) };
}

/** A library on a simulated machine, with a catalogue whose transactions are durable. */
export class SimulatedLibrary {
  readonly machine: SimulatedMachine;
  readonly disk: SimulatedDisk;
  /** What is durable of the catalogue, without the machine: for looks from outside. */
  readonly catalogue = memoryCatalogue();
  readonly #sessions = new Set<string>();
  readonly #limits: Partial<LibraryLimits>;
  #library: DirectoryLibrary | undefined;
  #opens = 0;

  constructor(seed: number, limits: Partial<LibraryLimits> = {}) {
    this.#limits = limits;
    this.machine = new SimulatedMachine(seed);
    this.disk = new SimulatedDisk(this.machine);
  }

  get library(): DirectoryLibrary {
    assert.ok(this.#library !== undefined);
    return this.#library;
  }

  get account(): AccountLibrary {
    return this.library.forAccount(ACCOUNT);
  }

  async open(options: { readonly isRebuild?: boolean } = {}): Promise<void> {
    this.#opens += 1;
    this.#library = await DirectoryLibrary.open({
      disk: this.disk,
      openCatalogue: async () => this.#steppedCatalogue(),
      codec: plainCodec,
      workers: codecWorkers(plainCodec),
      clock: stillClock(1_700_000_000_000 + this.#opens),
      log: silentLog,
      limits: { packBytes: 8000, digestBytes: 0, reserveBytes: 0, ...this.#limits },
      ...options,
    });
  }

  /** The power goes and comes back: nothing but what was durable is left. */
  async restart(options: { readonly isRebuild?: boolean } = {}): Promise<void> {
    await this.#restart(() => this.disk.cutPower(), options);
  }

  /** The process is killed, and the machine goes on: whatever was written is there. */
  async restartKilled(): Promise<void> {
    await this.#restart(() => undefined, {});
  }

  async #restart(lose: () => void, options: { readonly isRebuild?: boolean }): Promise<void> {
    const old = this.#library;
    this.#library = undefined;
    // The dead process: every step of it fails, so it can do nothing but end.
    await old?.[Symbol.asyncDispose]().catch(() => undefined);
    lose();
    this.machine.on();
    for (const session of this.#sessions) await this.catalogue.endSession(session);
    this.#sessions.clear();
    await this.open(options);
  }

  /** Ends the library in peace and opens it again. */
  async reopen(options: { readonly isRebuild?: boolean } = {}): Promise<void> {
    await this.library[Symbol.asyncDispose]();
    this.#library = undefined;
    await this.open(options);
  }

  async end(): Promise<void> {
    await this.#library?.[Symbol.asyncDispose]();
    await this.catalogue[Symbol.asyncDispose]();
  }

  /** The catalogue with every call as a step of the machine; closing it keeps its content. */
  #steppedCatalogue(): Catalogue {
    const calls: Record<string, unknown> = {};
    for (const [name, call] of Object.entries(this.catalogue)) {
      const original = call as (...values: unknown[]) => Promise<unknown>;
      calls[name] = (...values: unknown[]) =>
        this.machine[CATALOGUE_READS.has(name) ? 'look' : 'step'](`catalogue ${name}`, () => {
          if (name === 'beginSession') this.#sessions.add(String(values[0]));
          return original(...values);
        });
    }
    const stepped = calls as unknown as Catalogue;
    return {
      ...stepped,
      // SQLite writes it beside the library: a file that is there before it is whole.
      backup: async (path) => {
        await using file = await this.disk.create(path);
        await file.append([Buffer.from('a whole copy of the state')]);
        await file.datasync();
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }
}

/** Reads a whole disk back. */
export async function readPlain(
  account: AccountLibrary,
  imageId: string,
  beforeClose?: () => Promise<void>,
): Promise<Buffer> {
  await using image = await account.open(imageId);
  const parts: Buffer[] = [];
  for (let index = 0; index < image.pages.length; index++) {
    const entries = await image.page(index);
    const coded = await image.readCoded(
      entries.filter((entry): entry is OpenChunk => entry.kind === 'chunk'),
    );
    let next = 0;
    for (const entry of entries) {
      parts.push(
        entry.kind === 'hole'
          ? Buffer.alloc(entry.lengthBytes)
          : (coded[next++] as Buffer).subarray(0, entry.lengthBytes),
      );
    }
  }
  await beforeClose?.();
  return Buffer.concat(parts);
}
