import { ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { openImageContract } from '../../../test/contracts/open-image.ts';
import { openTestLibrary } from '../../../test/contracts/test-library.ts';
import { MemoryOpenImage } from '../../../test/fakes/memory-open-image.ts';
import { PiecesOpenImage } from '../../../test/fakes/pieces-open-image.ts';
import { zlibSegmentCodec } from '../adapters/zlib-segment-codec.ts';

const PIECE_BYTES = 64 * 1024;

/** Chunks of 64 KiB, and runs of zeros as holes. */
function piecesOf(plain: Buffer): (Buffer | number)[] {
  const pieces: (Buffer | number)[] = [];
  for (let at = 0; at < plain.byteLength; at += PIECE_BYTES) {
    const piece = plain.subarray(at, at + PIECE_BYTES);
    const last = pieces.at(-1);
    if (!piece.every((byte) => byte === 0)) pieces.push(piece);
    else if (typeof last === 'number') pieces[pieces.length - 1] = last + piece.byteLength;
    else pieces.push(piece.byteLength);
  }
  return pieces;
}

openImageContract('of a library', async (plain, work) => {
  await using library = await openTestLibrary();
  const parts = piecesOf(plain).map((piece) =>
    typeof piece === 'number' ? piece : segmentOf(piece),
  );
  const { id } = await ingest(library.account, 'web', parts);
  await work(await library.account.open(id));
});

openImageContract('of pieces', async (plain, work) => {
  const options = { codec: zlibSegmentCodec, pageEntries: 5 };
  await work(await PiecesOpenImage.of(piecesOf(plain), options));
});

openImageContract('in memory', async (plain, work) => {
  const { image } = await PiecesOpenImage.of(piecesOf(plain), {
    codec: zlibSegmentCodec,
    pageEntries: 5,
  });
  await work(new MemoryOpenImage(image, plain));
});
