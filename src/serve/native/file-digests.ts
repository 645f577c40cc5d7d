import { createHash } from 'node:crypto';
import { type Digest, digestFromBytes } from '../../base/index.ts';
import { Turnstile } from './turnstile.ts';

/** Files that are remembered: 100 bytes each. */
const MAX_DIGESTS = 1000;
/** Files that are read only for their digests at once; more wait. */
const FILES_AT_ONCE = 2;

/** What is known of a file that was read to its end. */
export interface FileDigest {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** A file by what tells its bytes. */
interface ReadableFile extends AsyncDisposable {
  readonly etag: string;
}

/** Computes digests of files once, whoever asks, and remembers the newest of them. */
export class FileDigests {
  // The ETag tells the bytes: a healed chunk changes both.
  readonly #known = new Map<string, FileDigest>();
  readonly #computing = new Map<string, Promise<FileDigest>>();
  readonly #places = new Turnstile(FILES_AT_ONCE);

  /** @returns what is known without reading */
  known(etag: string): FileDigest | undefined {
    return this.#known.get(etag);
  }

  /** Remembers a file that was read to its end by somebody. */
  note(etag: string, known: FileDigest): void {
    this.#known.set(etag, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_DIGESTS && oldest !== undefined) this.#known.delete(oldest);
  }

  /**
   * @param file is disposed of here
   * @param read gives its bytes, from the first to the last
   */
  async of<T extends ReadableFile>(
    file: T,
    read: (file: T) => AsyncIterable<Uint8Array>,
  ): Promise<Digest> {
    const known = this.#known.get(file.etag);
    const computing = this.#computing.get(file.etag);
    if (known !== undefined || computing !== undefined) {
      await file[Symbol.asyncDispose]();
      return (known ?? (await computing))?.digest as Digest;
    }
    const begun = this.#compute(file, read);
    this.#computing.set(file.etag, begun);
    try {
      const found = await begun;
      this.note(file.etag, found);
      return found.digest;
    } finally {
      this.#computing.delete(file.etag);
    }
  }

  async #compute<T extends ReadableFile>(
    file: T,
    read: (file: T) => AsyncIterable<Uint8Array>,
  ): Promise<FileDigest> {
    await using opened = file;
    using _place = await this.#places.enter();
    const hash = new CountedHash();
    for await (const bytes of read(opened)) hash.update(bytes);
    return hash.end();
  }
}

/** SHA-256 of bytes that go by, and their number. */
export class CountedHash {
  readonly #hash = createHash('sha256');
  #sizeBytes = 0;

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#sizeBytes += bytes.byteLength;
  }

  /** Ends it; nothing can be added any more. */
  end(): FileDigest {
    return { digest: digestFromBytes(this.#hash.digest()), sizeBytes: this.#sizeBytes };
  }
}
