import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { isFailure } from '../../base/index.ts';
import { MetadataReader } from '../filesystems/metadata-reader.ts';
import { readPartitionTable } from './partition-table.ts';

const MIB = 1024 * 1024;

function open(disk: Buffer): MetadataReader {
  const reader = {
    sizeBytes: disk.length,
    read: (offset: number, length: number) =>
      Promise.resolve(Buffer.from(disk.subarray(offset, offset + length))),
  };
  return new MetadataReader(reader, { offsetBytes: 0, sizeBytes: disk.length });
}

interface MbrRow {
  readonly type: number;
  readonly first: number;
  readonly sectors: number;
}

function putMbr(disk: Buffer, sector: number, rows: readonly MbrRow[]): void {
  for (const [i, { type, first, sectors }] of rows.entries()) {
    const at = sector * 512 + 446 + i * 16;
    disk.writeUInt8(type, at + 4);
    disk.writeUInt32LE(first, at + 8);
    disk.writeUInt32LE(sectors, at + 12);
  }
  disk.writeUInt16LE(0xaa55, sector * 512 + 510);
}

function putGpt(
  disk: Buffer,
  place: { readonly sectorBytes: number; readonly sector: number; readonly tableSector: number },
  rows: readonly (readonly [first: number, last: number])[],
): void {
  const table = Buffer.alloc(128 * 128);
  for (const [i, [first, last]] of rows.entries()) {
    table.fill(7, i * 128, i * 128 + 32);
    table.writeBigUInt64LE(BigInt(first), i * 128 + 32);
    table.writeBigUInt64LE(BigInt(last), i * 128 + 40);
  }
  table.copy(disk, place.tableSector * place.sectorBytes);
  const header = Buffer.alloc(92);
  header.write('EFI PART');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(BigInt(place.sector), 24);
  header.writeBigUInt64LE(BigInt(place.tableSector), 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(crc32(table), 88);
  header.writeUInt32LE(crc32(header), 16);
  header.copy(disk, place.sector * place.sectorBytes);
}

function gptDisk(sectorBytes: number): Buffer {
  const disk = Buffer.alloc(4 * MIB);
  const last = disk.length / sectorBytes - 1;
  const rows = [
    [MIB / sectorBytes, (2 * MIB) / sectorBytes - 1],
    [(2 * MIB) / sectorBytes, (3 * MIB) / sectorBytes - 1],
  ] as const;
  putMbr(disk, 0, [{ type: 0xee, first: 1, sectors: last }]);
  putGpt(disk, { sectorBytes, sector: 1, tableSector: 2 }, rows);
  putGpt(disk, { sectorBytes, sector: last, tableSector: last - 32 }, rows);
  return disk;
}

const EXPECTED = [
  { number: 1, offsetBytes: MIB, sizeBytes: MIB },
  { number: 2, offsetBytes: 2 * MIB, sizeBytes: MIB },
];

const isMalformed = (thrown: unknown): boolean => isFailure(thrown, 'filesystem-malformed');

describe('a partition table', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`of GPT is read with sectors of ${sectorBytes} bytes`, async () => {
      const table = await readPartitionTable(open(gptDisk(sectorBytes)));
      assert.deepEqual(table, { partitions: EXPECTED, notices: [] });
    });

    test(`of GPT is read from its copy when the first is damaged (${sectorBytes})`, async () => {
      for (const damaged of [sectorBytes + 40, 2 * sectorBytes + 35]) {
        const disk = gptDisk(sectorBytes);
        disk.writeUInt8(disk.readUInt8(damaged) ^ 1, damaged);
        const table = await readPartitionTable(open(disk));
        assert.deepEqual(table?.partitions, EXPECTED);
        assert.deepEqual(table?.notices, ['gpt: the first header is damaged, its copy is used']);
      }
    });
  }

  test('of GPT is refused when both copies are damaged', async () => {
    const disk = gptDisk(512);
    disk.writeUInt8(1, 512 + 40);
    disk.writeUInt8(1, disk.length - 512 + 40);
    await assert.rejects(readPartitionTable(open(disk)), isMalformed);
  });

  test('of GPT means nothing when the MBR does not guard it', async () => {
    const disk = gptDisk(512);
    putMbr(disk, 0, [{ type: 0x83, first: 64, sectors: 100 }]);
    const table = await readPartitionTable(open(disk));
    assert.deepEqual(table?.partitions, [
      { number: 1, offsetBytes: 64 * 512, sizeBytes: 100 * 512 },
    ]);
  });

  test('of MBR follows the chain of logical partitions', async () => {
    const disk = Buffer.alloc(MIB);
    putMbr(disk, 0, [
      { type: 0x83, first: 63, sectors: 100 },
      { type: 0x05, first: 200, sectors: 1000 },
    ]);
    putMbr(disk, 200, [
      { type: 0x83, first: 10, sectors: 50 },
      { type: 0x05, first: 300, sectors: 100 },
    ]);
    putMbr(disk, 500, [{ type: 0x82, first: 1, sectors: 60 }]);
    const table = await readPartitionTable(open(disk));
    assert.deepEqual(
      table?.partitions.map((p) => [p.number, p.offsetBytes / 512, p.sizeBytes / 512]),
      [
        [1, 63, 100],
        [5, 210, 50],
        [6, 501, 60],
      ],
    );
  });

  test('of MBR counts in the sectors of its disk', async () => {
    const disk = Buffer.alloc(MIB);
    putMbr(disk, 0, [
      { type: 0x83, first: 2, sectors: 3 },
      { type: 0x05, first: 8, sectors: 100 },
    ]);
    // The records of logical partitions lie at sectors of the disk as well.
    putMbr(disk, 64, [{ type: 0x83, first: 4, sectors: 5 }]);
    const table = await readPartitionTable(open(disk), 4096);
    assert.deepEqual(table?.partitions, [
      { number: 1, offsetBytes: 2 * 4096, sizeBytes: 3 * 4096 },
      { number: 5, offsetBytes: 12 * 4096, sizeBytes: 5 * 4096 },
    ]);
  });

  test('of MBR whose chain is a loop is refused', async () => {
    const disk = Buffer.alloc(MIB);
    putMbr(disk, 0, [{ type: 0x05, first: 200, sectors: 1000 }]);
    putMbr(disk, 200, [
      { type: 0x83, first: 10, sectors: 50 },
      { type: 0x05, first: 300, sectors: 100 },
    ]);
    putMbr(disk, 500, [
      { type: 0x83, first: 10, sectors: 50 },
      { type: 0x05, first: 300, sectors: 100 },
    ]);
    await assert.rejects(readPartitionTable(open(disk)), isMalformed);
  });

  test('with a partition beyond the end of the disk is refused', async () => {
    const disk = Buffer.alloc(MIB);
    putMbr(disk, 0, [{ type: 0x83, first: 64, sectors: 2000 }]);
    await assert.rejects(readPartitionTable(open(disk)), isMalformed);
  });

  test('with partitions that overlap is refused', async () => {
    const disk = Buffer.alloc(MIB);
    putMbr(disk, 0, [
      { type: 0x83, first: 64, sectors: 200 },
      { type: 0x83, first: 263, sectors: 200 },
    ]);
    await assert.rejects(readPartitionTable(open(disk)), isMalformed);
    putMbr(disk, 0, [
      { type: 0x83, first: 64, sectors: 200 },
      { type: 0x83, first: 264, sectors: 200 },
    ]);
    assert.equal((await readPartitionTable(open(disk)))?.partitions.length, 2);
  });

  test('is none on a disk of zeros, and on one with an empty MBR', async () => {
    const disk = Buffer.alloc(MIB);
    assert.equal(await readPartitionTable(open(disk)), undefined);
    putMbr(disk, 0, []);
    assert.equal(await readPartitionTable(open(disk)), undefined);
  });
});
