import { IngotError } from '../../src/base/index.ts';
import type { Disk, DiskFile } from '../../src/keep/index.ts';

/** Thrown by everything once the simulated machine has lost its power. */
export class PowerCut extends Error {
  override readonly name = 'PowerCut';
}

/** Numbers that a seed gives (mulberry32): the same seed, the same faults. */
export class SeededNumbers {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** @returns 0 to 1, without 1 */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
}

/** What can lose its power: counts every operation of its parts, and stops at one of them. */
export class SimulatedMachine {
  /** The power goes at this operation; never, when it is undefined. */
  cutAt: number | undefined;
  operations = 0;
  /** Names of all operations so far, for messages. */
  readonly history: string[] = [];
  readonly numbers: SeededNumbers;
  /** Waited for before every operation: who decides there which of several acts goes on. */
  gate: ((name: string) => Promise<void>) | undefined;
  #isOff = false;

  constructor(seed: number) {
    this.numbers = new SeededNumbers(seed);
  }

  /** Does one operation, unless the power goes before; it may also go right behind it. */
  async step<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    await this.gate?.(name);
    if (this.#isOff) throw new PowerCut(name);
    this.operations += 1;
    this.history.push(name);
    const isLast = this.operations === this.cutAt;
    if (isLast && this.numbers.next() < 0.5) this.#off(name);
    const result = await work();
    if (isLast) this.#off(name);
    return result;
  }

  /** Does what changes nothing: no use in cutting the power there. */
  async look<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    await this.gate?.(name);
    if (this.#isOff) throw new PowerCut(name);
    return await work();
  }

  /** Has power again. */
  on(): void {
    this.cutAt = undefined;
    this.#isOff = false;
  }

  #off(name: string): never {
    this.#isOff = true;
    throw new PowerCut(name);
  }
}

/** A file's bytes: what is durable, and what was written since. */
interface Inode {
  durable: Buffer;
  pending: Buffer[];
}

/** A change of names that is durable only when its folder is synced. */
type NameChange =
  | { readonly kind: 'add'; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'remove'; readonly name: string };

interface Folder {
  readonly durable: Map<string, Inode>;
  readonly now: Map<string, Inode>;
  pending: NameChange[];
  /** Names of folders in it. */
  readonly inside: string[];
}

const BLOCK = 512;

/**
 * A data directory in memory that forgets like a disk: at a power cut every write since the last
 * sync of its file, and every name since the last sync of its folder, may be there or not, in any
 * combination, in parts, and as garbage.
 */
export class SimulatedDisk implements Disk {
  readonly #machine: SimulatedMachine;
  readonly #folders = new Map<string, Folder>([['.', emptyFolder()]]);
  /** Bytes that may be in use; the rest is a full disk. */
  capacityBytes = Number.POSITIVE_INFINITY;
  /** The number of the sync that fails, counted down. */
  failingSync: number | undefined;
  /** Files by how often each is open. */
  readonly #opened = new Map<Inode, number>();

  constructor(machine: SimulatedMachine) {
    this.#machine = machine;
  }

  /** Loses what was not synced. */
  cutPower(): void {
    const { numbers } = this.#machine;
    const settled = new Set<Inode>();
    for (const folder of this.#folders.values()) {
      const names = new Map(folder.durable);
      for (const change of folder.pending) {
        if (numbers.next() < 0.5) continue;
        if (change.kind === 'add') names.set(change.name, change.inode);
        else names.delete(change.name);
      }
      folder.pending = [];
      folder.durable.clear();
      folder.now.clear();
      for (const [name, inode] of names) {
        if (!settled.has(inode)) settle(inode, numbers);
        settled.add(inode);
        folder.durable.set(name, inode);
        folder.now.set(name, inode);
      }
    }
  }

  async create(path: string): Promise<DiskFile> {
    return await this.#machine.step(`create ${path}`, () => {
      const { folder, name } = this.#find(path);
      if (folder.now.has(name)) throw unusable(`${path} is there already`);
      const inode: Inode = { durable: Buffer.alloc(0), pending: [] };
      folder.now.set(name, inode);
      folder.pending.push({ kind: 'add', name, inode });
      return this.#file(inode, path);
    });
  }

  async open(path: string): Promise<DiskFile | undefined> {
    return await this.#machine.look(`open ${path}`, () => {
      const { folder, name } = this.#find(path);
      const inode = folder.now.get(name);
      return inode === undefined ? undefined : this.#file(inode, path);
    });
  }

  async sizeOf(path: string): Promise<number | undefined> {
    return await this.#machine.look(`sizeOf ${path}`, () => {
      const { folder, name } = this.#find(path);
      const inode = folder.now.get(name);
      return inode === undefined ? undefined : sizeOf(inode);
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#machine.step(`rename ${from} ${to}`, () => {
      const [source, target] = [this.#find(from), this.#find(to)];
      const inode = source.folder.now.get(source.name);
      if (inode === undefined) throw unusable(`${from} is not there`);
      source.folder.now.delete(source.name);
      target.folder.now.set(target.name, inode);
      target.folder.pending.push({ kind: 'add', name: target.name, inode });
      source.folder.pending.push({ kind: 'remove', name: source.name });
    });
  }

  async remove(path: string): Promise<void> {
    await this.#machine.step(`remove ${path}`, () => {
      const { folder, name } = this.#find(path);
      if (folder.now.delete(name)) folder.pending.push({ kind: 'remove', name });
    });
  }

  async list(folder: string): Promise<string[]> {
    return await this.#machine.look(`list ${folder}`, () => {
      const found = this.#folders.get(folder);
      if (found === undefined) throw unusable(`${folder} is no folder`);
      return [...found.now.keys(), ...found.inside].sort();
    });
  }

  /** Folders are durable at once: they are made when a library is, before anything counts. */
  async makeFolder(path: string): Promise<void> {
    await this.#machine.step(`makeFolder ${path}`, () => {
      if (this.#folders.has(path)) return;
      this.#folders.set(path, emptyFolder());
      this.#find(path).folder.inside.push(nameOf(path));
    });
  }

  async syncFolder(path: string): Promise<void> {
    await this.#machine.step(`syncFolder ${path}`, () => {
      this.#mayFail(`syncing ${path}`);
      const folder = this.#folders.get(path);
      if (folder === undefined) throw unusable(`${path} is no folder`);
      folder.durable.clear();
      for (const [name, inode] of folder.now) folder.durable.set(name, inode);
      folder.pending = [];
    });
  }

  async freeBytes(): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  async lock(): Promise<AsyncDisposable> {
    return { [Symbol.asyncDispose]: async () => undefined };
  }

  #file(inode: Inode, path: string): DiskFile {
    this.#opened.set(inode, (this.#opened.get(inode) ?? 0) + 1);
    let isOpen = true;
    return {
      get sizeBytes() {
        return sizeOf(inode);
      },
      append: (buffers) =>
        this.#machine.step(`append ${path}`, () => {
          const bytes = Buffer.concat(buffers);
          if (this.usedBytes() + bytes.length > this.capacityBytes) {
            throw new IngotError('library-full', `no space for ${path}`);
          }
          inode.pending.push(bytes);
        }),
      read: (offsetBytes, lengthBytes) =>
        this.#machine.look(`read ${path}`, () =>
          Buffer.from(contentOf(inode).subarray(offsetBytes, offsetBytes + lengthBytes)),
        ),
      datasync: () =>
        this.#machine.step(`datasync ${path}`, () => {
          this.#mayFail(`syncing ${path}`);
          inode.durable = contentOf(inode);
          inode.pending = [];
        }),
      [Symbol.asyncDispose]: async () => {
        if (!isOpen) return;
        isOpen = false;
        const left = (this.#opened.get(inode) ?? 1) - 1;
        if (left > 0) this.#opened.set(inode, left);
        else this.#opened.delete(inode);
      },
    };
  }

  /** @returns bytes of files that were removed, and take space because somebody has them open */
  heldBytes(): number {
    const named = new Set([...this.#folders.values()].flatMap(({ now }) => [...now.values()]));
    let held = 0;
    for (const inode of this.#opened.keys()) if (!named.has(inode)) held += sizeOf(inode);
    return held;
  }

  /** Changes a bit of a file, as a disk does that forgets. */
  flipBit(path: string, offsetBytes: number): void {
    const { folder, name } = this.#find(path);
    const inode = folder.now.get(name);
    if (inode === undefined) throw unusable(`${path} is not there`);
    const content = Buffer.from(contentOf(inode));
    content[offsetBytes] = (content[offsetBytes] ?? 0) ^ 1;
    inode.durable = content;
    inode.pending = [];
  }

  usedBytes(): number {
    let used = 0;
    for (const folder of this.#folders.values()) {
      for (const inode of folder.now.values()) used += sizeOf(inode);
    }
    return used;
  }

  #mayFail(doing: string): void {
    if (this.failingSync === undefined) return;
    this.failingSync -= 1;
    if (this.failingSync === 0) throw unusable(`${doing} ended with EIO`);
  }

  #find(path: string): { folder: Folder; name: string } {
    const folder = this.#folders.get(folderOf(path));
    if (folder === undefined) throw unusable(`${folderOf(path)} is no folder`);
    return { folder, name: nameOf(path) };
  }
}

function emptyFolder(): Folder {
  return { durable: new Map(), now: new Map(), pending: [], inside: [] };
}

function contentOf(inode: Inode): Buffer {
  return inode.pending.length === 0
    ? inode.durable
    : Buffer.concat([inode.durable, ...inode.pending]);
}

function sizeOf(inode: Inode): number {
  return inode.pending.reduce((sum, { length }) => sum + length, inode.durable.length);
}

/** Decides for every block that was not synced whether it is there, zero, or garbage. */
function settle(inode: Inode, numbers: SeededNumbers): void {
  if (inode.pending.length === 0) return;
  const whole = Buffer.from(contentOf(inode));
  const start = inode.durable.length;
  const end = start + numbers.below(whole.length - start + 1);
  for (let at = start; at < end; at += BLOCK) {
    const fate = numbers.next();
    if (fate < 0.5) continue;
    whole.fill(fate < 0.8 ? 0 : 0xa5, at, Math.min(end, at + BLOCK));
  }
  inode.durable = whole.subarray(0, end);
  inode.pending = [];
}

function folderOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : path.slice(0, slash);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function unusable(message: string): IngotError {
  return new IngotError('library-unusable', message);
}
