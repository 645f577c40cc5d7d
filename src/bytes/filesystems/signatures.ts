import { isExt } from './ext/superblock.ts';

/** All signatures lie in the first bytes of a filesystem. */
export const SIGNATURE_BYTES = 72 * 1024;

interface Signature {
  /** As blkid names it. */
  readonly filesystem: string;
  readonly offsetBytes: number;
  readonly bytes: string;
}

/** Signatures that stand at a fixed place; a name may stand here more than once. */
const SIGNATURES: readonly Signature[] = [
  { filesystem: 'xfs', offsetBytes: 0, bytes: 'XFSB' },
  { filesystem: 'btrfs', offsetBytes: 65_536 + 64, bytes: '_BHRfS_M' },
  { filesystem: 'f2fs', offsetBytes: 1024, bytes: '\x10\x20\xf5\xf2' },
  { filesystem: 'jfs', offsetBytes: 32_768, bytes: 'JFS1' },
  { filesystem: 'reiserfs', offsetBytes: 65_536 + 52, bytes: 'ReIsErFs' },
  { filesystem: 'reiserfs', offsetBytes: 65_536 + 52, bytes: 'ReIsEr2Fs' },
  { filesystem: 'reiserfs', offsetBytes: 65_536 + 52, bytes: 'ReIsEr3Fs' },
  { filesystem: 'swap', offsetBytes: 4096 - 10, bytes: 'SWAPSPACE2' },
  { filesystem: 'swap', offsetBytes: 16_384 - 10, bytes: 'SWAPSPACE2' },
  { filesystem: 'swap', offsetBytes: 65_536 - 10, bytes: 'SWAPSPACE2' },
  { filesystem: 'swsuspend', offsetBytes: 4096 - 10, bytes: 'S1SUSPEND' },
  { filesystem: 'crypto_LUKS', offsetBytes: 0, bytes: 'LUKS\xba\xbe' },
  { filesystem: 'LVM2_member', offsetBytes: 0, bytes: 'LABELONE' },
  { filesystem: 'LVM2_member', offsetBytes: 512, bytes: 'LABELONE' },
  { filesystem: 'LVM2_member', offsetBytes: 1024, bytes: 'LABELONE' },
  { filesystem: 'LVM2_member', offsetBytes: 1536, bytes: 'LABELONE' },
  { filesystem: 'ntfs', offsetBytes: 3, bytes: 'NTFS    ' },
  { filesystem: 'exfat', offsetBytes: 3, bytes: 'EXFAT   ' },
  { filesystem: 'squashfs', offsetBytes: 0, bytes: 'hsqs' },
  { filesystem: 'erofs', offsetBytes: 1024, bytes: '\xe2\xe1\xf5\xe0' },
  { filesystem: 'iso9660', offsetBytes: 32_769, bytes: 'CD001' },
  // The md superblock of versions 1.1 and 1.2; 1.0 and 0.90 stand at the end, behind a filesystem.
  { filesystem: 'linux_raid_member', offsetBytes: 0, bytes: '\xfc\x4e\x2b\xa9' },
  { filesystem: 'linux_raid_member', offsetBytes: 4096, bytes: '\xfc\x4e\x2b\xa9' },
];

/**
 * Names every filesystem whose signature stands in the first bytes.
 *
 * More than one means that an old one was not wiped: which one lives cannot be told from here.
 *
 * @param head the first {@link SIGNATURE_BYTES} bytes, or as many as there are
 */
export function findSignatures(head: Buffer): string[] {
  const found = new Set<string>();
  for (const { filesystem, offsetBytes, bytes } of SIGNATURES) {
    const end = offsetBytes + bytes.length;
    if (head.length >= end && head.toString('latin1', offsetBytes, end) === bytes) {
      found.add(filesystem);
    }
  }
  if (isExt(head.subarray(1024))) found.add('ext');
  if (isFat(head)) found.add('vfat');
  return [...found];
}

/** FAT has no signature of its own: its parameter block must make sense. */
function isFat(head: Buffer): boolean {
  if (head.length < 512 || head.readUInt16LE(510) !== 0xaa55) return false;
  const sectorBytes = head.readUInt16LE(11);
  const clusterSectors = head.readUInt8(13);
  const media = head.readUInt8(21);
  const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  return (
    [0xeb, 0xe9].includes(head.readUInt8(0)) &&
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    isPowerOfTwo(clusterSectors) &&
    head.readUInt16LE(14) > 0 &&
    [1, 2].includes(head.readUInt8(16)) &&
    (media === 0xf0 || media >= 0xf8) &&
    !['NTFS    ', 'EXFAT   '].includes(head.toString('latin1', 3, 11))
  );
}
