import type { SegmentEngine } from '../chunks/segment-engine.ts';
import { ISAL_NAME, openIsalSegmentEngine } from './isal-segment-codec.ts';
import { openZlibSegmentEngine } from './zlib-segment-engine.ts';

/**
 * Opens for one thread the engine of the codec that was chosen for the process.
 *
 * @param codecName what the codec is called
 * @throws Error when ISA-L was chosen and is not there any more
 */
export function segmentEngineOf(codecName: string): SegmentEngine {
  return codecName === ISAL_NAME ? openIsalSegmentEngine() : openZlibSegmentEngine();
}
