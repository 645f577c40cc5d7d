import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { ISAL_NAME, openIsalSegmentEngine } from './isal-segment-codec.ts';
import { openWasmSegmentEngine, WASM_NAME } from './wasm-segment-engine.ts';
import { openZlibSegmentEngine } from './zlib-segment-engine.ts';

/**
 * Opens for one thread the engine of the codec that was chosen for the process.
 *
 * @param codecName what the codec is called
 * @throws Error when ISA-L was chosen and is not there any more, or WebAssembly is not
 */
export function segmentEngineOf(codecName: string): SegmentEngine {
  if (codecName === ISAL_NAME) return openIsalSegmentEngine();
  return codecName === WASM_NAME ? openWasmSegmentEngine() : openZlibSegmentEngine();
}
