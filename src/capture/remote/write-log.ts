import { IngotError } from '../../base/index.ts';
import type { Extent } from '../../bytes/index.ts';

const SECTOR_BYTES = 512;

/** @returns the sector that a log of writes counts from, or undefined where there is no log */
export function parseLogBase(text: string): number | undefined {
  const digits = /^base (\d{1,16})$/.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/**
 * Parses what a device tells that was written to its disk.
 *
 * @param device where it begins on that disk, and its size; writes elsewhere are left out
 * @returns undefined when the log does not have all
 * @throws IngotError `frame-malformed`
 * @see docs/formats/pull-protocol.md "The log of writes"
 */
export function parseWritten(
  text: string,
  device: { readonly baseSector: number; readonly sizeBytes: number },
): readonly Extent[] | undefined {
  if (text === 'lost') return undefined;
  const extents: Extent[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, sector, count] = /^(\d{1,20}) (\d{1,10})$/.exec(line) ?? [];
    // A flush writes nothing, at no sector.
    if (count === '0') continue;
    const start = (Number(sector) - device.baseSector) * SECTOR_BYTES;
    const end = start + Number(count) * SECTOR_BYTES;
    if (!(Number.isSafeInteger(start) && Number.isSafeInteger(end))) {
      throw new IngotError('frame-malformed', `${JSON.stringify(line.slice(0, 80))} was written`);
    }
    const offsetBytes = Math.max(0, start);
    const lengthBytes = Math.min(end, device.sizeBytes) - offsetBytes;
    if (lengthBytes > 0) extents.push({ offsetBytes, lengthBytes });
  }
  return extents;
}
