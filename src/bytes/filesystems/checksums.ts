/** Builds the table of a reflected CRC, one entry for each byte. */
function crcTable(polynomial: number): Uint32Array {
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    table[byte] = crc >>> 0;
  }
  return table;
}

const CASTAGNOLI = crcTable(0x82f63b78);
const CRC16_IBM = crcTable(0xa001);

/**
 * Continues a CRC-32C (Castagnoli) over `bytes`, without inversion at either end: callers start
 * with 0xffffffff and invert where their format does.
 */
export function crc32c(seed: number, bytes: Uint8Array): number {
  let crc = seed >>> 0;
  for (let i = 0; i < bytes.length; i++) {
    crc = (CASTAGNOLI[(crc ^ (bytes[i] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8);
  }
  return crc >>> 0;
}

/** Continues a CRC-16 (IBM, reflected) over `bytes`. */
export function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed & 0xffff;
  for (const byte of bytes) crc = (CRC16_IBM[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return crc & 0xffff;
}
