import { type FilesystemMap, wholeMap } from './filesystem-map.ts';
import type { MetadataReader } from './metadata-reader.ts';
import { RunList } from './run-list.ts';

const PAGE_SIZES = [4096, 16_384, 65_536];

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
    const mark = await disk.read(pageBytes - 10, 10, 'the swap header');
    if (mark.toString('latin1') !== 'SWAPSPACE2') continue;
    const allocated = new RunList('join-gaps');
    allocated.add(0, pageBytes);
    return { filesystem: 'swap', allocated, fileExtents: undefined, notices: [] };
  }
  return wholeMap('swap', disk.sizeBytes, ['swap: no header: everything is copied']);
}
