const BLOCK = 512;

function sizeOf(header: Buffer): number {
  return Number.parseInt(header.toString('latin1', 124, 135), 8);
}

/** Sets time, owner and owner names of one header to what a reproducible writer writes. */
function normalHeader(header: Buffer): void {
  header.write('0000000\0', 108, 'latin1');
  header.write('0000000\0', 116, 'latin1');
  header.write('00000000000\0', 136, 'latin1');
  header.fill(0, 265, 329);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

/**
 * Takes an uncompressed artifact apart into headers and bodies, without times and owners.
 *
 * The digest of header.tar stands in the manifest and depends on the times of scripts, so the
 * manifest is left out: its form is tested elsewhere.
 *
 * @returns a line per entry, inner archives included
 */
export function withoutTempFileTraces(archive: Buffer, path = ''): string[] {
  const lines: string[] = [];
  let at = 0;
  while (at + BLOCK <= archive.length && archive[at] !== 0) {
    const header = Buffer.from(archive.subarray(at, at + BLOCK));
    const sizeBytes = sizeOf(header);
    normalHeader(header);
    const name = header.toString('latin1', 0, header.indexOf(0));
    const body = archive.subarray(at + BLOCK, at + BLOCK + sizeBytes);
    lines.push(`${path}${name} ${header.toString('base64')}`);
    if (name.endsWith('.tar')) lines.push(...withoutTempFileTraces(body, `${path}${name}/`));
    else if (name !== 'manifest') lines.push(body.toString('base64').slice(0, 4096));
    at += BLOCK + Math.ceil(sizeBytes / BLOCK) * BLOCK;
  }
  lines.push(`${path} ends with ${archive.length - at} zero bytes`);
  return lines;
}
