import type { ByteStream } from '../byte-stream.ts';
import { malformedAt } from './json-shape.ts';

const PIECE_BYTES = 256 * 1024;
/** Archives are padded to 10 KiB by other tools, and to 1 MiB by some; more is an attack. */
const MAX_PADDING_BYTES = 16 * 1024 * 1024;

/**
 * Reads what follows the end of an archive: nothing, or zeros. Clients in C++ take nothing else.
 *
 * @throws IngotError `artifact-malformed` for other bytes, or more than 16 MiB of zeros
 */
export async function expectArchiveEnd(stream: ByteStream, archive: string): Promise<void> {
  let paddingBytes = 0;
  for (;;) {
    const piece = await stream.takeSome(PIECE_BYTES);
    if (piece === undefined) return;
    paddingBytes += piece.length;
    if (piece.some((byte) => byte !== 0)) {
      throw malformedAt(archive, 'bytes that are not zero follow the end of the archive');
    }
    if (paddingBytes > MAX_PADDING_BYTES) {
      throw malformedAt(archive, `more than ${MAX_PADDING_BYTES} bytes follow its end`);
    }
  }
}
