import type { RestoreTarget, TargetFacts } from '../../src/publish/index.ts';

/** A target in memory that counts what is done to it. */
export class MemoryTarget implements RestoreTarget {
  readonly facts: TargetFacts;
  readonly blockBytes: number;
  readonly isBlank: boolean;
  readonly zeroesCheaply: boolean;
  readonly disk: Buffer;
  readonly writes: { readonly offsetBytes: number; readonly lengthBytes: number }[] = [];
  readonly calls: string[] = [];
  readBytes = 0;
  /** Called before each write: a test makes it fail or lie. */
  beforeWrite: (buffer: Buffer, offsetBytes: number) => void = () => undefined;

  constructor(
    disk: Buffer,
    options: {
      readonly blockBytes?: number;
      readonly isBlank?: boolean;
      readonly zeroesCheaply?: boolean;
    } = {},
  ) {
    this.disk = disk;
    this.facts = { path: 'memory', kind: 'block-device', sizeBytes: disk.length };
    this.blockBytes = options.blockBytes ?? 512;
    this.isBlank = options.isBlank ?? false;
    this.zeroesCheaply = options.zeroesCheaply ?? false;
  }

  allocate(lengthBytes: number): Buffer<ArrayBuffer> {
    // Whatever memory holds: nothing may rely on fresh buffers being zeros.
    return Buffer.alloc(lengthBytes, 0xa5);
  }

  async read(buffer: Buffer, offsetBytes: number): Promise<void> {
    this.#check(buffer.length, offsetBytes);
    this.readBytes += buffer.length;
    buffer.fill(0);
    this.disk.copy(buffer, 0, offsetBytes, offsetBytes + buffer.length);
  }

  async write(buffer: Buffer, offsetBytes: number): Promise<void> {
    this.#check(buffer.length, offsetBytes);
    this.beforeWrite(buffer, offsetBytes);
    this.writes.push({ offsetBytes, lengthBytes: buffer.length });
    buffer.copy(this.disk, offsetBytes);
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#check(lengthBytes, offsetBytes);
    this.calls.push(`zero ${offsetBytes} ${lengthBytes}`);
    this.disk.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  async sync(): Promise<void> {
    this.calls.push('sync');
  }

  async publish(): Promise<void> {
    this.calls.push('publish');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.calls.push('close');
  }

  #check(lengthBytes: number, offsetBytes: number): void {
    const isAligned = offsetBytes % this.blockBytes === 0 && lengthBytes % this.blockBytes === 0;
    if (!isAligned) throw new Error(`${lengthBytes} bytes at ${offsetBytes} are no whole blocks`);
    if (lengthBytes === 0) throw new Error('nothing to do');
  }
}
