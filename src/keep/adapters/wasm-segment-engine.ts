import { Buffer } from 'node:buffer';
import { MAX_CHUNK_BYTES, storeInto } from '../../bytes/index.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { DEFLATE_WASM } from './wasm-deflate.ts';
import { openZlibSegmentEngine } from './zlib-segment-engine.ts';

/** What our own coder is called, with its version: another number when it codes otherwise. */
export const WASM_NAME = 'wasm-1';

/** What `assembly/deflate/index.ts` exports. */
interface DeflateExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly INPUT: { readonly value: number };
  readonly OUTPUT: { readonly value: number };
  /** @returns the length of the segment, 0 if the chunk is better stored */
  readonly encode: (plainBytes: number) => number;
}

/** What is used of WebAssembly: the types of Node leave it out. */
interface WebAssemblyCalls {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}

function openDeflate(): DeflateExports {
  const { WebAssembly: calls } = globalThis as { WebAssembly?: WebAssemblyCalls };
  if (calls === undefined) throw new Error('this Node has no WebAssembly');
  const module = new calls.Module(Buffer.from(DEFLATE_WASM, 'base64'));
  return new calls.Instance(module).exports as DeflateExports;
}

/**
 * Codes segments with our own deflate in WebAssembly on the thread that calls.
 *
 * It decodes with Node's zlib: what is inflated and compared before it is kept was read by another
 * program than the one that wrote it.
 *
 * @throws Error where Node runs without WebAssembly, as with `--jitless`
 * @see docs/formats/segments.md
 */
export function openWasmSegmentEngine(): SegmentEngine {
  const { memory, INPUT, OUTPUT, encode } = openDeflate();
  // The memory never grows, so these stay where they are.
  const input = new Uint8Array(memory.buffer, INPUT.value, MAX_CHUNK_BYTES);
  const output = new Uint8Array(memory.buffer, OUTPUT.value, MAX_CHUNK_BYTES);
  return {
    ...openZlibSegmentEngine(),
    name: WASM_NAME,

    encodeInto(plain, target) {
      input.set(plain);
      const codedBytes = encode(plain.byteLength);
      if (codedBytes === 0) return storeInto(plain, target);
      target.set(output.subarray(0, codedBytes));
      return codedBytes;
    },
  };
}
