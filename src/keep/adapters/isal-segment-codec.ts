import { Buffer } from 'node:buffer';
import koffi from 'koffi';
import { copyBytes } from '../../base/index.ts';
import {
  MAX_CHUNK_BYTES,
  MAX_CODED_BYTES,
  storedSegment,
  storedSegmentBytes,
  storeInto,
} from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import {
  checkedPlain,
  checkSegmentLengths,
  type ProbedOutput,
  segmentMalformed,
  segmentProbe,
} from '../chunks/strict-decode.ts';
import { type StreamMemory, takeStreamMemory } from './isal-stream-memory.ts';
import { ENGINE_CALLS, LendingPool } from './lending-pool.ts';

/** The ABI that the offsets below belong to. */
const LIBRARY = 'libisal.so.2';

/** Level 2 gives the bytes of zlib 6 at ten times its speed; 1 is hardly faster, 3 much slower. */
const LEVEL = 2;

/**
 * Offsets in `struct isal_zstream` on 64-bit machines (igzip_lib.h, 2.30). They are checked at the
 * start by round trips, see `openFastestCodec`.
 */
const DEFLATE = {
  nextIn: 0,
  availIn: 8,
  nextOut: 16,
  availOut: 24,
  totalOut: 28,
  level: 40,
  levelBufSize: 44,
  levelBuf: 48,
  endOfStream: 56,
  flush: 58,
} as const;

/** `sizeof (struct isal_zstream)` is 82384; what is more is room for a later minor version. */
const DEFLATE_BYTES = 96 * 1024;

/** `ISAL_DEF_LVL2_DEFAULT`: 331776. */
const LEVEL_BUF_BYTES = 331_776;

const FULL_FLUSH = 2;
const COMP_OK = 0;

/** The output does not fit; the only failure that plain bytes can cause. */
const STATELESS_OVERFLOW = -1;

/** Offsets in `struct inflate_state`; only its first fields are read. */
const INFLATE = { nextOut: 0, availOut: 8, totalOut: 12, nextIn: 16, availIn: 32 } as const;

/** `sizeof (struct inflate_state)` is about 88 KiB. */
const INFLATE_BYTES = 256 * 1024;

const DECOMP_OK = 0;
const END_INPUT = 1;

/** A call on this thread, or on one of koffi's. */
interface Call {
  readonly here: (address: bigint) => number;
  readonly elsewhere: (address: bigint) => Promise<number>;
}

/** The calls of ISA-L. */
interface Library {
  readonly initDeflate: (address: bigint) => void;
  readonly deflate: Call;
  readonly initInflate: (address: bigint) => void;
  readonly inflate: Call;
  readonly crc32: (seed: number, address: bigint, lengthBytes: number) => number;
}

function loadLibrary(): Library {
  const library = koffi.load(LIBRARY);
  const callOf = (name: string): Call => {
    const call = library.func(name, 'int', ['void *']);
    return {
      here: call,
      elsewhere: (address) =>
        new Promise((resolve, reject) => {
          call.async(address, (error: Error | null, status: number) => {
            if (error === null) resolve(status);
            else reject(error);
          });
        }),
    };
  };
  return {
    initDeflate: library.func('isal_deflate_stateless_init', 'void', ['void *']),
    deflate: callOf('isal_deflate_stateless'),
    initInflate: library.func('isal_inflate_init', 'void', ['void *']),
    inflate: callOf('isal_inflate_stateless'),
    crc32: library.func('crc32_gzip_refl', 'uint32_t', ['uint32_t', 'void *', 'uint64_t']),
  };
}

/** Memory that native code works in while a call runs. It never moves. */
class NativeBuffer {
  readonly bytes: Buffer;
  readonly address: bigint;

  constructor(sizeBytes: number) {
    this.bytes = Buffer.alloc(sizeBytes);
    this.address = addressOf(this.bytes);
  }
}

/**
 * Where bytes lie. The caller keeps the buffer reachable until the native call is over.
 *
 * Typed arrays of up to 64 bytes may lie on V8's heap, which moves; asking for `buffer` moves them
 * out for good.
 */
function addressOf(bytes: Uint8Array): bigint {
  if (bytes.buffer.byteLength === 0) return 0n;
  return koffi.address(bytes);
}

/** State of one deflate at a time. */
class Deflater {
  readonly #library: Library;
  readonly #stream: StreamMemory =
    takeStreamMemory(DEFLATE_BYTES) ?? new NativeBuffer(DEFLATE_BYTES);
  readonly #levelBuf = new NativeBuffer(LEVEL_BUF_BYTES);

  constructor(library: Library) {
    this.#library = library;
  }

  /**
   * Codes on another thread; neither buffer may change or go away meanwhile.
   *
   * @returns the coded length, or undefined when stored blocks are shorter or it did not fit
   */
  async run(plain: Uint8Array, target: Uint8Array): Promise<number | undefined> {
    this.#prepare(plain, target);
    const status = await this.#library.deflate.elsewhere(this.#stream.address);
    return this.#lengthOf(status, plain);
  }

  /** As {@link run}, on this thread. */
  runHere(plain: Uint8Array, target: Uint8Array): number | undefined {
    this.#prepare(plain, target);
    return this.#lengthOf(this.#library.deflate.here(this.#stream.address), plain);
  }

  #prepare(plain: Uint8Array, target: Uint8Array): void {
    const stream = this.#stream.bytes;
    this.#library.initDeflate(this.#stream.address);
    stream.writeBigUInt64LE(addressOf(plain), DEFLATE.nextIn);
    stream.writeUInt32LE(plain.byteLength, DEFLATE.availIn);
    stream.writeBigUInt64LE(addressOf(target), DEFLATE.nextOut);
    stream.writeUInt32LE(target.byteLength, DEFLATE.availOut);
    stream.writeUInt32LE(0, DEFLATE.totalOut);
    stream.writeUInt32LE(LEVEL, DEFLATE.level);
    stream.writeUInt32LE(LEVEL_BUF_BYTES, DEFLATE.levelBufSize);
    stream.writeBigUInt64LE(this.#levelBuf.address, DEFLATE.levelBuf);
    stream.writeUInt16LE(0, DEFLATE.endOfStream);
    stream.writeUInt16LE(FULL_FLUSH, DEFLATE.flush);
  }

  // Reading `plain` after the call keeps it alive while the engine reads it.
  #lengthOf(status: number, plain: Uint8Array): number | undefined {
    const codedBytes = this.#stream.bytes.readUInt32LE(DEFLATE.totalOut);
    if (status !== COMP_OK && status !== STATELESS_OVERFLOW) {
      throw new Error(`isal_deflate_stateless gave ${status} for ${plain.byteLength} bytes`);
    }
    const storedBytes = storedSegmentBytes(plain.byteLength);
    return status === STATELESS_OVERFLOW || codedBytes > storedBytes ? undefined : codedBytes;
  }
}

/** State of one inflate at a time. */
class Inflater {
  readonly #library: Library;
  readonly #state = new NativeBuffer(INFLATE_BYTES);
  readonly #input = new NativeBuffer(MAX_CODED_BYTES + segmentProbe.coded.byteLength);

  constructor(library: Library) {
    this.#library = library;
    library.initInflate(this.#state.address);
  }

  /** Inflates on another thread. */
  async run(coded: Uint8Array, plainBytes: number): Promise<ProbedOutput> {
    const output = Buffer.allocUnsafeSlow(plainBytes + segmentProbe.plain.byteLength);
    this.#prepare(coded, output);
    const status = await this.#library.inflate.elsewhere(this.#state.address);
    return this.#outputOf(status, { coded, plainBytes, output });
  }

  /** As {@link run}, on this thread, into the start of `target`. */
  runHere(coded: Uint8Array, plainBytes: number, target: Buffer): ProbedOutput {
    const output = target.subarray(0, plainBytes + segmentProbe.plain.byteLength);
    this.#prepare(coded, output);
    const status = this.#library.inflate.here(this.#state.address);
    return this.#outputOf(status, { coded, plainBytes, output });
  }

  #prepare(coded: Uint8Array, output: Buffer): void {
    const state = this.#state.bytes;
    copyBytes(this.#input.bytes, 0, coded);
    this.#input.bytes.set(segmentProbe.coded, coded.byteLength);
    state.writeBigUInt64LE(addressOf(output), INFLATE.nextOut);
    state.writeUInt32LE(output.byteLength, INFLATE.availOut);
    state.writeUInt32LE(0, INFLATE.totalOut);
    state.writeBigUInt64LE(this.#input.address, INFLATE.nextIn);
    state.writeUInt32LE(coded.byteLength + segmentProbe.coded.byteLength, INFLATE.availIn);
  }

  #outputOf(
    status: number,
    call: { readonly coded: Uint8Array; readonly plainBytes: number; readonly output: Buffer },
  ): ProbedOutput {
    const { coded, plainBytes, output } = call;
    if (status !== DECOMP_OK) {
      throw segmentMalformed(coded, plainBytes, `it is no deflate of that length (${status})`);
    }
    const state = this.#state.bytes;
    const inputBytes = coded.byteLength + segmentProbe.coded.byteLength;
    return {
      output: output.subarray(0, state.readUInt32LE(INFLATE.totalOut)),
      usedBytes: inputBytes - state.readUInt32LE(INFLATE.availIn),
    };
  }
}

/** As {@link Inflater}, without a probe and without memory for the input. */
class PlainInflater {
  readonly #library: Library;
  readonly #state = new NativeBuffer(INFLATE_BYTES);

  constructor(library: Library) {
    this.#library = library;
    library.initInflate(this.#state.address);
  }

  runHere(coded: Uint8Array, plain: Uint8Array): void {
    const state = this.#state.bytes;
    state.writeBigUInt64LE(addressOf(plain), INFLATE.nextOut);
    state.writeUInt32LE(plain.byteLength, INFLATE.availOut);
    state.writeUInt32LE(0, INFLATE.totalOut);
    state.writeBigUInt64LE(addressOf(coded), INFLATE.nextIn);
    state.writeUInt32LE(coded.byteLength, INFLATE.availIn);
    const status = this.#library.inflate.here(this.#state.address);
    const doneBytes = state.readUInt32LE(INFLATE.totalOut);
    // A segment has no final block, so the engine says that its input is over. Reading the lengths
    // after the call keeps both buffers alive while the engine works in them.
    if (status === END_INPUT && doneBytes === plain.byteLength) return;
    throw segmentMalformed(coded, plain.byteLength, `${doneBytes} bytes came out (${status})`);
  }
}

/** A deflater and room for what it makes. */
class SpareDeflater {
  readonly #deflater: Deflater;
  // Bytes that do not compress come out larger; what does not fit becomes stored blocks.
  readonly #output = new NativeBuffer(2 * MAX_CODED_BYTES).bytes;

  constructor(library: Library) {
    this.#deflater = new Deflater(library);
  }

  async run(plain: Uint8Array): Promise<Buffer> {
    const codedBytes = await this.#deflater.run(plain, this.#output);
    if (codedBytes === undefined) return storedSegment(plain);
    const coded = Buffer.allocUnsafeSlow(codedBytes);
    this.#output.copy(coded, 0, 0, codedBytes);
    return coded;
  }
}

/** What engine and codec are called. */
export const ISAL_NAME: string = `isal-${LEVEL}`;

/**
 * Opens Intel's ISA-L through FFI; its calls run on koffi's threads.
 *
 * @throws Error when the library is not there or is none that this code knows
 * @see docs/formats/segments.md
 */
export function openIsalSegmentCodec(): SegmentCodec {
  const library = loadLibrary();
  const deflaters = new LendingPool(() => new SpareDeflater(library), ENGINE_CALLS);
  const inflaters = new LendingPool(() => new Inflater(library), ENGINE_CALLS);
  return {
    name: ISAL_NAME,

    encode: (plain) => deflaters.use((deflater) => deflater.run(plain)),

    async decode(coded, plainBytes) {
      checkSegmentLengths(coded, plainBytes);
      const probed = await inflaters.use((inflater) => inflater.run(coded, plainBytes));
      return checkedPlain(coded, plainBytes, probed);
    },

    crc32: (bytes) => library.crc32(0, addressOf(bytes), bytes.byteLength),
  };
}

/**
 * Opens ISA-L for one thread.
 *
 * @throws Error as {@link openIsalSegmentCodec}
 */
export function openIsalSegmentEngine(): SegmentEngine {
  const library = loadLibrary();
  const deflater = new Deflater(library);
  const inflater = new Inflater(library);
  const plainInflater = new PlainInflater(library);
  const output = new NativeBuffer(MAX_CHUNK_BYTES + segmentProbe.plain.byteLength).bytes;
  return {
    name: ISAL_NAME,

    encodeInto(plain, target) {
      const codedBytes = deflater.runHere(plain, target);
      if (codedBytes !== undefined) return codedBytes;
      return storeInto(plain, target);
    },

    decode(coded, plainBytes) {
      checkSegmentLengths(coded, plainBytes);
      return checkedPlain(coded, plainBytes, inflater.runHere(coded, plainBytes, output));
    },

    decodeInto(coded, target) {
      checkSegmentLengths(coded, target.byteLength);
      plainInflater.runHere(coded, target);
    },

    crc32: (bytes) => library.crc32(0, addressOf(bytes), bytes.byteLength),
  };
}
