/** Bytes of an entry of a directory. */
export const ENTRY_BYTES = 32;

/** Attributes of an entry; all four low ones together mark a part of a long name. */
export const ATTRIBUTES = { readOnly: 1, label: 8, directory: 16, longName: 15 } as const;

/** Characters of a part of a long name, as runs of 16-bit units: first byte, and how many. */
const LONG_PARTS = [
  [1, 5],
  [14, 6],
  [28, 2],
] as const;
const UNITS_PER_PART = 13;
/** A long name has at most 255 units. */
const MAX_PARTS = 20;
const LAST_PART = 0x40;

/** Characters 128 to 255 of code page 437, in which short names are, unless a system chose another. */
const CODE_PAGE_437 =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐' +
  '└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0';

/** Collects the parts of a long name, which lie before their entry with the last part first. */
export class LongName {
  #units: number[] = [];
  #nextPart = 0;
  #checksum = 0;

  /** Takes a part; one that does not follow on drops what was collected. */
  add(entry: Buffer): void {
    const order = entry.readUInt8(0);
    const part = order & 0x3f;
    const checksum = entry.readUInt8(13);
    if ((order & LAST_PART) !== 0 && part >= 1 && part <= MAX_PARTS) {
      this.#units = [];
      this.#checksum = checksum;
    } else if (part !== this.#nextPart || part === 0 || checksum !== this.#checksum) {
      this.drop();
      return;
    }
    this.#nextPart = part - 1;
    const units: number[] = [];
    for (const [from, count] of LONG_PARTS) {
      for (let i = 0; i < count; i++) units.push(entry.readUInt16LE(from + i * 2));
    }
    this.#units.unshift(...units);
  }

  drop(): void {
    this.#units = [];
    this.#nextPart = 0;
  }

  /**
   * Ends the name at the entry that it belongs to.
   *
   * @returns undefined when there is none, or another entry's: the short name counts then
   */
  take(entry: Buffer): Buffer | undefined {
    const units = this.#units;
    const isWhole = units.length >= UNITS_PER_PART && this.#nextPart === 0;
    this.#units = [];
    this.#nextPart = 0;
    if (!isWhole || this.#checksum !== checksumOf(entry)) return undefined;
    const end = units.indexOf(0);
    const text = String.fromCharCode(...(end < 0 ? units : units.slice(0, end)));
    // Half a pair has no form in UTF-8, and two such names would look the same.
    return text.length > 0 && text.isWellFormed() ? Buffer.from(text) : undefined;
  }
}

/** @returns the checksum of a short name that stands in every part of its long name */
function checksumOf(entry: Buffer): number {
  let sum = 0;
  for (let i = 0; i < 11; i++) sum = (((sum & 1) << 7) + (sum >> 1) + entry.readUInt8(i)) & 0xff;
  return sum;
}

/**
 * Reads a name of eight and three characters, in lower case where its entry says so.
 *
 * @returns UTF-8
 */
export function shortName(entry: Buffer): Buffer {
  const flags = entry.readUInt8(12);
  const base = part(entry, 0, 8, (flags & 0x08) !== 0);
  const extension = part(entry, 8, 11, (flags & 0x10) !== 0);
  return Buffer.from(extension === '' ? base : `${base}.${extension}`);
}

function part(entry: Buffer, from: number, to: number, isLower: boolean): string {
  let text = '';
  for (let at = from; at < to; at++) {
    const byte = entry.readUInt8(at);
    // 0xe5 as the first byte means a free entry: a name that begins with it has 5 there.
    const code = at === 0 && byte === 5 ? 0xe5 : byte;
    text += code < 128 ? String.fromCharCode(code) : (CODE_PAGE_437[code - 128] ?? '');
  }
  const trimmed = text.replace(/ +$/, '');
  return isLower ? trimmed.toLowerCase() : trimmed;
}
