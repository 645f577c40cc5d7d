import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { FAT_PIECE_BYTES, type FatGeometry, fatEntryAt } from './geometry.ts';

/** Clusters that lie one behind the other. */
export interface ClusterRun {
  readonly diskOffset: number;
  readonly lengthBytes: number;
}

/** A piece of the table, as it was read last. */
interface TablePiece {
  readonly first: number;
  readonly bytes: Buffer;
}

/** Follows the chains of clusters in the table that is true. */
export class ClusterChains {
  readonly #disk: MetadataReader;
  readonly #fat: FatGeometry;
  #piece: TablePiece | undefined;

  constructor(disk: MetadataReader, fat: FatGeometry) {
    this.#disk = disk;
    this.#fat = fat;
  }

  /**
   * Yields the clusters of a chain, neighbours joined, up to a length.
   *
   * @param options `maxBytes` is where to stop; `isWhole` refuses a chain that ends before it
   * @throws IngotError `filesystem-malformed` for a chain that leads outside, back into itself, or
   *   through a free or bad cluster
   */
  async *runs(
    firstCluster: number,
    { maxBytes, isWhole }: { readonly maxBytes: number; readonly isWhole: boolean },
  ): AsyncGenerator<ClusterRun, void, undefined> {
    const { clusterBytes, clusters, dataOffsetBytes } = this.#fat;
    let start = 0;
    let length = 0;
    let takenBytes = 0;
    let count = 0;
    for (let cluster = firstCluster; takenBytes < maxBytes; ) {
      if (cluster < 2 || cluster >= clusters + 2) throw malformed(`a chain leads to ${cluster}`);
      count += 1;
      // A chain that meets itself never ends; no chain has more clusters than there are.
      if (count > clusters) throw malformed(`the chain from ${firstCluster} is a circle`);
      const offset = dataOffsetBytes + (cluster - 2) * clusterBytes;
      if (length > 0 && offset !== start + length) {
        yield { diskOffset: start, lengthBytes: length };
        length = 0;
      }
      if (length === 0) start = offset;
      const bytes = Math.min(clusterBytes, maxBytes - takenBytes);
      length += bytes;
      takenBytes += bytes;
      const next = await this.#next(cluster);
      if (next === undefined) break;
      cluster = next;
    }
    if (isWhole && takenBytes < maxBytes) {
      throw malformed(`the chain from ${firstCluster} has ${takenBytes} of ${maxBytes} bytes`);
    }
    if (length > 0) yield { diskOffset: start, lengthBytes: length };
  }

  /** @returns the cluster behind this one, or undefined at the end */
  async #next(cluster: number): Promise<number | undefined> {
    const { entryBits } = this.#fat;
    const { first, bytes } = await this.#pieceOf(cluster);
    const entry = fatEntryAt(bytes, cluster - first, entryBits);
    const last = entryBits === 32 ? 0x0ffffff8 : 2 ** entryBits - 8;
    return entry >= last ? undefined : entry;
  }

  async #pieceOf(cluster: number): Promise<TablePiece> {
    const { entryBits, fatOffsetBytes, fatBytes, activeFat } = this.#fat;
    const perPiece = (FAT_PIECE_BYTES * 8) / entryBits;
    const first = Math.floor(cluster / perPiece) * perPiece;
    if (this.#piece?.first === first) return this.#piece;
    const from = (first * entryBits) / 8;
    const length = Math.min(FAT_PIECE_BYTES, fatBytes - from);
    const at = fatOffsetBytes + activeFat * fatBytes + from;
    const bytes = await this.#disk.read(at, length, 'a file allocation table');
    this.#piece = { first, bytes };
    return this.#piece;
  }
}
