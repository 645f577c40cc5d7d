import { hash } from 'node:crypto';
import { crc32, gzipSync, inflateRawSync } from 'node:zlib';
import { type Digest, digestOf, type Id, IngotError, newId } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import type {
  AccountImports,
  AccountLibrary,
  Image,
  ImageDescription,
  IngestSummary,
  LentBuffer,
  LibrarySession,
  ManifestEntry,
} from '../../src/keep/index.ts';
import type { PublishedFile } from '../../src/publish/index.ts';
import type { Caller, ImageForm, NativeBackend } from '../../src/serve/index.ts';
import { MemoryOpenImage } from './memory-open-image.ts';

const refuseNow = (): never => {
  throw new IngotError('not-allowed', 'this backend has none');
};

const refuse = async (): Promise<never> => {
  throw new IngotError('not-allowed', 'a library in memory has one client and no upkeep');
};

/** An image library in memory, small and without care for speed, with its one API client. */
export class MemoryBackend implements NativeBackend {
  readonly caller: Caller = { clientId: 'cli-aaaaa', accountId: 'acc-aaaaa' };
  readonly secret = 'a secret of a test';
  readonly stored = new Map<Id<'img'>, { image: Image; plain: Buffer }>();
  readonly chunks = new Map<Digest, Buffer>();
  /** Every image that was opened for reading. */
  readonly opened: MemoryOpenImage[] = [];
  /** Sessions that have neither been committed nor given up. */
  readonly open = new Map<string, LibrarySession>();

  readonly clients: NativeBackend['clients'] = {
    authenticate: async (id, secret) =>
      id === this.caller.clientId && secret === this.secret ? this.caller : undefined,
    isKnown: async () => true,
    list: refuse,
    show: refuse,
    create: refuse,
    destroy: refuse,
  };

  readonly upkeep: NativeBackend['upkeep'] = noUpkeep;

  imports(): AccountImports {
    return {
      offer: refuseNow,
      takeOutput: refuse,
      begin: refuse,
      upload: refuse,
      state: refuse,
      receive: refuse,
      cancel: refuse,
    };
  }

  library(): AccountLibrary {
    const plainOf = (id: string): { image: Image; plain: Buffer } => this.#find(id);
    return {
      begin: async (description) => this.#begin(description),
      ingest: (id) => {
        const session = this.open.get(id);
        if (session !== undefined) return session;
        throw new IngotError('ingest-not-found', `no ingest is ${id}`);
      },
      list: async ({ afterId, limit = 1000 } = {}) =>
        [...this.stored.values()]
          .map(({ image }) => image)
          .filter((image) => afterId === undefined || image.id > afterId)
          .sort((a, b) => (a.id < b.id ? -1 : 1))
          .slice(0, limit),
      show: async (id) => plainOf(id).image,
      update: async (id, changes) => this.#change(id, changes),
      destroy: async (id) => {
        const { image } = plainOf(id);
        if (image.isLocked) throw new IngotError('image-in-use', `${id} is locked`);
        this.stored.delete(image.id);
      },
      open: async (id) => {
        const { image, plain } = plainOf(id);
        const opened = new MemoryOpenImage(image, plain);
        this.opened.push(opened);
        return opened;
      },
      plainDigest: async (id) => digestOf(plainOf(id).plain),
    };
  }

  async lend(lengthBytes: number): Promise<LentBuffer> {
    return { bytes: Buffer.alloc(lengthBytes), [Symbol.dispose]: () => undefined };
  }

  async openFile(_caller: Caller, id: Id<'img'>, form: ImageForm): Promise<PublishedFile> {
    const { plain } = this.#find(id);
    const bytes = form === 'raw' ? plain : gzipSync(plain);
    return memoryFile(form === 'raw' ? `${id}.raw` : `${id}.gz`, bytes);
  }

  /** Puts an image in without an ingest. */
  add(plain: Buffer, facts: Partial<Image> = {}): Image {
    const image: Image = { ...imageOf(this.caller.accountId, plain), ...facts };
    this.stored.set(image.id, { image, plain });
    return image;
  }

  #find(id: string): { image: Image; plain: Buffer } {
    const found = this.stored.get(id as Id<'img'>);
    if (found === undefined) throw new IngotError('image-not-found', `no image is ${id}`);
    return found;
  }

  #change(id: string, change: Partial<Image>): Image {
    const { image, plain } = this.#find(id);
    const changed = { ...image, ...change };
    this.stored.set(image.id, { image: changed, plain });
    return changed;
  }

  #begin(description: ImageDescription): LibrarySession {
    const session: LibrarySession = {
      id: newId('ing'),
      have: async (digests) => digests.map((digest) => this.chunks.has(digest)),
      put: async (segments) => {
        for (const segment of segments) this.#put(segment);
      },
      commit: async (entries, summary) => this.#commit(session, description, entries, summary),
      abort: async () => {
        this.open.delete(session.id);
      },
    };
    this.open.set(session.id, session);
    return session;
  }

  #put(segment: Segment): void {
    const plain = inflateRawSync(Buffer.concat([segment.coded, Buffer.from([3, 0])]));
    const isRight = digestOf(plain) === segment.digest && crc32(plain) === segment.plainCrc32;
    if (!isRight) throw new IngotError('segment-malformed', 'the segment is not what it says');
    this.chunks.set(segment.digest, plain);
  }

  async #commit(
    session: LibrarySession,
    description: ImageDescription,
    entries: AsyncIterable<readonly ManifestEntry[]>,
    summary: IngestSummary,
  ): Promise<Image> {
    const parts: Buffer[] = [];
    for await (const batch of entries) {
      for (const entry of batch) {
        const part =
          entry.kind === 'hole' ? Buffer.alloc(entry.lengthBytes) : this.chunks.get(entry.digest);
        if (part === undefined) throw new IngotError('chunk-missing', 'a chunk never came');
        parts.push(part);
      }
    }
    const plain = Buffer.concat(parts);
    if (plain.byteLength !== summary.sizeBytes) {
      throw new IngotError(
        'manifest-invalid',
        `${plain.byteLength} bytes, not ${summary.sizeBytes}`,
      );
    }
    this.open.delete(session.id);
    return this.add(plain, { ...description, capture: summary.capture });
  }
}

function imageOf(ownerId: Id<'acc'>, plain: Buffer): Image {
  return {
    id: newId('img'),
    ownerId,
    name: 'an image',
    description: '',
    kind: 'upload',
    arch: 'x86_64',
    ancestorId: undefined,
    compatibilityMode: false,
    status: 'available',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt: Date.UTC(2010, 11, 19, 12, 57, 37),
    virtualSizeBytes: plain.byteLength,
    gzipSizeBytes: gzipSync(plain).byteLength,
    addedBytes: 0,
    plainDigest: digestOf(plain),
    capture: {
      consistency: 'none',
      freezeMs: 0,
      filesystem: undefined,
      source: 'a test',
      freeSpace: 'keep',
    },
  };
}

/** A file of an image in memory, given out in pieces of 64 KiB. */
function memoryFile(name: string, bytes: Buffer): PublishedFile {
  return {
    name,
    mediaType: name.endsWith('.gz') ? 'application/gzip' : 'application/octet-stream',
    sizeBytes: bytes.byteLength,
    etag: hash('sha256', bytes).slice(0, 32),
    sha256: hash('sha256', bytes),
    async *read(startByte, endByte) {
      for (let at = startByte; at < endByte; at += 65_536) {
        yield bytes.subarray(at, Math.min(at + 65_536, endByte));
      }
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

const noUpkeep: NativeBackend['upkeep'] = {
  jobs: {
    show: refuse,
    list: refuse,
    cancel: refuse,
    watch: () => {
      throw new IngotError('job-not-found', 'a library in memory has no jobs');
    },
  },
  isOperator: async () => true,
  stats: refuse,
  schedules: async () => [],
  verify: refuse,
  collect: refuse,
  backup: refuse,
};
