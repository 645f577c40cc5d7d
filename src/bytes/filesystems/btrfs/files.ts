import type { FileExtents } from '../../extent.ts';
import { FileExtentList } from '../file-extent-list.ts';
import { malformed } from '../metadata-reader.ts';
import type { ChunkMap } from './chunk-map.ts';
import type { TreeItem } from './tree.ts';

const EXTENT_DATA = 108;
const REGULAR = 1;
const ITEM_BYTES = 53;
/** All subvolumes together: snapshots name the same extents again. */
const MAX_EXTENTS = 2 ** 22;

/** Collects where files lie from the items of file trees. */
export class BtrfsFiles {
  readonly #chunks: ChunkMap;
  readonly #extents = new FileExtentList();
  #seen = 0;

  constructor(chunks: ChunkMap) {
    this.#chunks = chunks;
  }

  /**
   * Takes an item of a file tree; only regular extents count (inline data and preallocated space
   * have none of their own). A compressed extent is taken whole, as it lies on the disk.
   *
   * @throws IngotError `filesystem-malformed`
   */
  addItem(item: TreeItem): void {
    if (item.type !== EXTENT_DATA || item.data.length < ITEM_BYTES) return;
    if (item.data.readUInt8(20) !== REGULAR) return;
    const logical = Number(item.data.readBigUInt64LE(21));
    if (logical === 0) return;
    this.#seen += 1;
    if (this.#seen > MAX_EXTENTS) throw malformed('its files have too many extents');
    const isCompressed = item.data.readUInt8(16) !== 0;
    const skipped = isCompressed ? 0 : Number(item.data.readBigUInt64LE(37));
    const lengthBytes = Number(item.data.readBigUInt64LE(isCompressed ? 29 : 45));
    const fileOffset = Number(item.offset);
    for (const diskOffset of this.#chunks.locate(logical + skipped, lengthBytes)) {
      this.#extents.add(diskOffset, lengthBytes, fileOffset);
    }
  }

  finish(): FileExtents {
    return this.#extents.finish();
  }
}
