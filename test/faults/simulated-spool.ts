import type { Id } from '../../src/base/index.ts';
import type { UploadFile, UploadSpool } from '../../src/keep/imports/upload-spool.ts';
import type { SimulatedMachine } from './simulated-disk.ts';

/** Uploads in memory; every write is a step of the machine, and durable. */
export class SimulatedSpool implements UploadSpool {
  readonly #machine: SimulatedMachine;
  readonly #uploads = new Map<Id<'img'>, Buffer>();

  constructor(machine: SimulatedMachine) {
    this.#machine = machine;
  }

  /** Whose folders are there. */
  get imageIds(): Id<'img'>[] {
    return [...this.#uploads.keys()];
  }

  async make(imageId: Id<'img'>): Promise<void> {
    await this.#machine.step(`make upload ${imageId}`, () => {
      if (!this.#uploads.has(imageId)) this.#uploads.set(imageId, Buffer.alloc(0));
    });
  }

  folderOf(imageId: Id<'img'>): string {
    return imageId;
  }

  fileOf(imageId: Id<'img'>): string {
    return imageId;
  }

  async sizeOf(imageId: Id<'img'>): Promise<number> {
    return await this.#machine.look('size of upload', () => this.#bytes(imageId).length);
  }

  async append(imageId: Id<'img'>): Promise<UploadFile> {
    // As a real one, which is opened.
    if (!this.#uploads.has(imageId)) throw new Error(`there is no folder for ${imageId}`);
    const bytes = (): Buffer => this.#bytes(imageId);
    return {
      get sizeBytes() {
        return bytes().length;
      },
      append: (more) =>
        this.#machine.step(`append to upload ${imageId}`, () => {
          this.#uploads.set(imageId, Buffer.concat([bytes(), more]));
        }),
      datasync: () => this.#machine.step(`sync upload ${imageId}`, () => undefined),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async truncate(imageId: Id<'img'>, sizeBytes: number): Promise<void> {
    await this.#machine.step(`truncate upload ${imageId}`, () => {
      const bytes = this.#uploads.get(imageId);
      if (bytes !== undefined) this.#uploads.set(imageId, bytes.subarray(0, sizeBytes));
    });
  }

  async *read(imageId: Id<'img'>): AsyncGenerator<Buffer> {
    yield Buffer.from(this.#bytes(imageId));
  }

  async remove(imageId: Id<'img'>): Promise<void> {
    await this.#machine.step(`remove upload ${imageId}`, () => {
      this.#uploads.delete(imageId);
    });
  }

  async sweep(imageIds: ReadonlySet<Id<'img'>>): Promise<void> {
    await this.#machine.step('sweep uploads', () => {
      for (const imageId of this.#uploads.keys()) {
        if (!imageIds.has(imageId)) this.#uploads.delete(imageId);
      }
    });
  }

  async freeBytes(): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  /** What was received so far. */
  #bytes(imageId: Id<'img'>): Buffer {
    return this.#uploads.get(imageId) ?? Buffer.alloc(0);
  }
}
