import { Buffer } from 'node:buffer';
import koffi from 'koffi';
import { MAX_CODED_BYTES, storedSegment, storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import {
  checkedPlain,
  checkSegmentLengths,
  type ProbedOutput,
  segmentMalformed,
  segmentProbe,
} from '../chunks/strict-decode.ts';
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

type Call = (address: bigint) => Promise<number>;

/** The four calls of ISA-L. */
interface Engine {
  readonly initDeflate: (address: bigint) => void;
  readonly deflate: Call;
  readonly initInflate: (address: bigint) => void;
  readonly inflate: Call;
}

function loadEngine(): Engine {
  const library = koffi.load(LIBRARY);
  const asynchronous = (name: string): Call => {
    const call = library.func(name, 'int', ['void *']);
    return (address) =>
      new Promise((resolve, reject) => {
        call.async(address, (error: Error | null, status: number) => {
          if (error === null) resolve(status);
          else reject(error);
        });
      });
  };
  return {
    initDeflate: library.func('isal_deflate_stateless_init', 'void', ['void *']),
    deflate: asynchronous('isal_deflate_stateless'),
    initInflate: library.func('isal_inflate_init', 'void', ['void *']),
    inflate: asynchronous('isal_inflate_stateless'),
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
  readonly #engine: Engine;
  readonly #stream = new NativeBuffer(DEFLATE_BYTES);
  readonly #levelBuf = new NativeBuffer(LEVEL_BUF_BYTES);
  // Bytes that do not compress come out larger; what does not fit becomes stored blocks.
  readonly #output = new NativeBuffer(2 * MAX_CODED_BYTES);

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** @returns the segment, or undefined when it did not fit */
  async run(plain: Uint8Array): Promise<Buffer | undefined> {
    const stream = this.#stream.bytes;
    this.#engine.initDeflate(this.#stream.address);
    stream.writeBigUInt64LE(addressOf(plain), DEFLATE.nextIn);
    stream.writeUInt32LE(plain.byteLength, DEFLATE.availIn);
    stream.writeBigUInt64LE(this.#output.address, DEFLATE.nextOut);
    stream.writeUInt32LE(this.#output.bytes.byteLength, DEFLATE.availOut);
    stream.writeUInt32LE(0, DEFLATE.totalOut);
    stream.writeUInt32LE(LEVEL, DEFLATE.level);
    stream.writeUInt32LE(LEVEL_BUF_BYTES, DEFLATE.levelBufSize);
    stream.writeBigUInt64LE(this.#levelBuf.address, DEFLATE.levelBuf);
    stream.writeUInt16LE(0, DEFLATE.endOfStream);
    stream.writeUInt16LE(FULL_FLUSH, DEFLATE.flush);
    const status = await this.#engine.deflate(this.#stream.address);
    const codedBytes = stream.readUInt32LE(DEFLATE.totalOut);
    if (status !== COMP_OK && status !== STATELESS_OVERFLOW) {
      throw new Error(`isal_deflate_stateless gave ${status} for ${plain.byteLength} bytes`);
    }
    // Reading `plain` after the call keeps it alive while the engine reads it.
    const storedBytes = storedSegmentBytes(plain.byteLength);
    if (status === STATELESS_OVERFLOW || codedBytes > storedBytes) return undefined;
    const coded = Buffer.allocUnsafeSlow(codedBytes);
    this.#output.bytes.copy(coded, 0, 0, codedBytes);
    return coded;
  }
}

/** State of one inflate at a time. */
class Inflater {
  readonly #engine: Engine;
  readonly #state = new NativeBuffer(INFLATE_BYTES);
  readonly #input = new NativeBuffer(MAX_CODED_BYTES + segmentProbe.coded.byteLength);

  constructor(engine: Engine) {
    this.#engine = engine;
    engine.initInflate(this.#state.address);
  }

  async run(coded: Uint8Array, plainBytes: number): Promise<ProbedOutput> {
    const state = this.#state.bytes;
    const inputBytes = coded.byteLength + segmentProbe.coded.byteLength;
    this.#input.bytes.set(coded);
    this.#input.bytes.set(segmentProbe.coded, coded.byteLength);
    const output = Buffer.allocUnsafeSlow(plainBytes + segmentProbe.plain.byteLength);
    state.writeBigUInt64LE(addressOf(output), INFLATE.nextOut);
    state.writeUInt32LE(output.byteLength, INFLATE.availOut);
    state.writeUInt32LE(0, INFLATE.totalOut);
    state.writeBigUInt64LE(this.#input.address, INFLATE.nextIn);
    state.writeUInt32LE(inputBytes, INFLATE.availIn);
    const status = await this.#engine.inflate(this.#state.address);
    if (status !== DECOMP_OK) {
      throw segmentMalformed(coded, plainBytes, `it is no deflate of that length (${status})`);
    }
    return {
      output: output.subarray(0, state.readUInt32LE(INFLATE.totalOut)),
      usedBytes: inputBytes - state.readUInt32LE(INFLATE.availIn),
    };
  }
}

/** State of one decoder of runs at a time: it needs no memory for its input. */
class RunInflater {
  readonly #engine: Engine;
  readonly #state = new NativeBuffer(INFLATE_BYTES);

  constructor(engine: Engine) {
    this.#engine = engine;
    engine.initInflate(this.#state.address);
  }

  async run(coded: Uint8Array, plain: Uint8Array): Promise<void> {
    const state = this.#state.bytes;
    state.writeBigUInt64LE(addressOf(plain), INFLATE.nextOut);
    state.writeUInt32LE(plain.byteLength, INFLATE.availOut);
    state.writeUInt32LE(0, INFLATE.totalOut);
    state.writeBigUInt64LE(addressOf(coded), INFLATE.nextIn);
    state.writeUInt32LE(coded.byteLength, INFLATE.availIn);
    const status = await this.#engine.inflate(this.#state.address);
    const doneBytes = state.readUInt32LE(INFLATE.totalOut);
    // Segments have no final block, so the engine says that its input is over. Reading the lengths
    // after the call keeps both buffers alive while the engine works in them.
    if (status === END_INPUT && doneBytes === plain.byteLength) return;
    throw segmentMalformed(coded, plain.byteLength, `${doneBytes} bytes came out (${status})`);
  }
}

/**
 * Opens Intel's ISA-L through FFI; its calls run on koffi's threads.
 *
 * @throws Error when the library is not there or is none that this code knows
 * @see docs/formats/segments.md
 */
export function openIsalSegmentCodec(): SegmentCodec {
  const engine = loadEngine();
  const deflaters = new LendingPool(() => new Deflater(engine), ENGINE_CALLS);
  const inflaters = new LendingPool(() => new Inflater(engine), ENGINE_CALLS);
  const runInflaters = new LendingPool(() => new RunInflater(engine), ENGINE_CALLS);
  return {
    name: `isal-${LEVEL}`,

    async encode(plain) {
      return (await deflaters.use((deflater) => deflater.run(plain))) ?? storedSegment(plain);
    },

    async decode(coded, plainBytes) {
      checkSegmentLengths(coded, plainBytes);
      const probed = await inflaters.use((inflater) => inflater.run(coded, plainBytes));
      return checkedPlain(coded, plainBytes, probed);
    },

    async decodeRun(coded, plain) {
      await runInflaters.use((inflater) => inflater.run(coded, plain));
    },
  };
}
