import { type FilesystemMap, wholeMap } from './filesystem-map.ts';
import type { MetadataReader } from './metadata-reader.ts';
import { RunList } from './run-list.ts';

const PAGE_SIZES = [4096, 16_384, 65_536];
const VERSION_AT = 1024;
const LAST_PAGE_AT = 1028;

/**
 * Maps a swap area: only its header page means something after a boot (label, UUID, bad pages).
 *
 * A hibernated system is in it as well, then it has another signature and is not seen as swap.
 *
 * @see man 8 mkswap
 */
export async function readSwapMap(disk: MetadataReader): Promise<FilesystemMap> {
  for (const pageBytes of PAGE_SIZES) {
    if (disk.sizeBytes < pageBytes) break;
    const header = await disk.read(0, pageBytes, 'the swap header');
    if (header.toString('latin1', pageBytes - 10, pageBytes) !== 'SWAPSPACE2') continue;
    const areaBytes = (header.readUInt32LE(LAST_PAGE_AT) + 1) * pageBytes;
    if (header.readUInt32LE(VERSION_AT) !== 1 || areaBytes > disk.sizeBytes) break;
    const allocated = new RunList('join-gaps');
    allocated.add(0, pageBytes);
    allocated.add(areaBytes, disk.sizeBytes);
    return { filesystem: 'swap', allocated, fileExtents: undefined, notices: [] };
  }
  return wholeMap('swap', disk.sizeBytes, ['swap: its header is damaged: everything is copied']);
}
