/**
 * Builds an initramfs: a cpio archive of the "newc" kind, as the Linux kernel unpacks it.
 *
 * Each entry is a header of 110 ASCII bytes, the name with a NUL, and the content, both padded to
 * four bytes. Parent folders must come before what they hold, so this class adds them.
 *
 * @see https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
export class CpioArchive {
  readonly #parts: Buffer[] = [];
  readonly #folders = new Set<string>();
  readonly #names = new Set<string>();

  /** Adds a regular file; the first content given for a path stays. */
  addFile(path: string, content: Uint8Array | string, mode = 0o644): void {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    this.#add(path, 0o100000 | mode, bytes);
  }

  /** Adds a symbolic link at `path` that says `target`. */
  addLink(path: string, target: string): void {
    this.#add(path, 0o120777, Buffer.from(target));
  }

  /** Adds a folder and its parents. */
  addFolder(path: string, mode = 0o755): void {
    const name = entryName(path);
    if (name === '' || this.#folders.has(name)) return;
    this.#folders.add(name);
    this.#addParents(name);
    this.#push(name, 0o040000 | mode, Buffer.alloc(0));
  }

  /** @returns the whole archive, with its trailer */
  toBuffer(): Buffer {
    const trailer = entryHeader('TRAILER!!!', 0, 0, 0);
    return Buffer.concat([...this.#parts, trailer]);
  }

  #add(path: string, mode: number, content: Uint8Array): void {
    const name = entryName(path);
    if (this.#names.has(name)) return;
    this.#names.add(name);
    this.#addParents(name);
    this.#push(name, mode, content);
  }

  #addParents(name: string): void {
    const slash = name.lastIndexOf('/');
    if (slash > 0) this.addFolder(name.slice(0, slash));
  }

  #push(name: string, mode: number, content: Uint8Array): void {
    const inode = this.#parts.length + 1;
    this.#parts.push(entryHeader(name, inode, mode, content.byteLength), padded(content));
  }
}

function entryName(path: string): string {
  return path.replace(/^\/+/, '').replace(/\/+$/, '');
}

function padded(content: Uint8Array): Buffer {
  const rest = content.byteLength % 4;
  return Buffer.concat([content, Buffer.alloc(rest === 0 ? 0 : 4 - rest)]);
}

function entryHeader(name: string, inode: number, mode: number, sizeBytes: number): Buffer {
  const nameBytes = Buffer.byteLength(name) + 1;
  // inode, mode, uid, gid, links, mtime, size, 2 x device, 2 x special device, name, checksum
  const fields = [inode, mode, 0, 0, 1, 0, sizeBytes, 0, 0, 0, 0, nameBytes, 0];
  const digits = fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  return padded(Buffer.from(`070701${digits}${name}\0`));
}
