/** One partition, as its table gives it. */
export interface Partition {
  /** As the kernel numbers it: `sda1` is 1, logical ones start at 5. */
  readonly number: number;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** What a partition table says. */
export interface PartitionTable {
  readonly partitions: readonly Partition[];
  readonly notices: readonly string[];
}
