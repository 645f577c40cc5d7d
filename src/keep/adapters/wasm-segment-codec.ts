import { Buffer } from 'node:buffer';
import { digestOf } from '../../base/index.ts';
import { storedSegmentBytes } from '../../bytes/index.ts';
import type { ChunkWorkers } from '../chunks/chunk-workers.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { openChunkWorkers } from './thread-chunk-workers.ts';
import { openWasmSegmentEngine, WASM_NAME } from './wasm-segment-engine.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

/** The workers hand on what a chunk is called; here nobody asks. */
const NO_NAME = digestOf(Buffer.alloc(0));

let workers: ChunkWorkers | undefined;

/**
 * Codes segments with our own deflate on threads, which start with the first chunk, and decodes as
 * Node's zlib does.
 *
 * @see docs/formats/segments.md
 */
export const wasmSegmentCodec: SegmentCodec = {
  ...zlibSegmentCodec,
  name: WASM_NAME,

  async encode(plain) {
    workers ??= openChunkWorkers(WASM_NAME);
    using lent = await workers.lend(plain.byteLength);
    lent.bytes.set(plain);
    const chunk = { digest: NO_NAME, startBytes: 0, lengthBytes: plain.byteLength };
    using coded = await workers.encode(lent.bytes, [chunk], { isCompared: false });
    const [segment] = coded.segments;
    if (segment === undefined) throw new Error('a chunk was coded and has no segment');
    return Buffer.from(segment.coded);
  },
};

/**
 * Gives the same engine on this thread as a codec, for a few chunks: threads would take longer to
 * start.
 *
 * @throws Error where Node runs without WebAssembly
 */
export function openWasmSegmentCodecHere(): SegmentCodec {
  const engine = openWasmSegmentEngine();
  return {
    ...wasmSegmentCodec,
    encode: async (plain) => {
      const target = Buffer.allocUnsafe(storedSegmentBytes(plain.byteLength));
      const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
      return target.subarray(0, engine.encodeInto(bytes, target));
    },
  };
}
