import { MIB } from '../../base/index.ts';
import type { ChunkPlace } from './catalogue.ts';
import type { LibraryContext } from './library-context.ts';

const READ_BYTES = 4 * MIB;

/** A chunk read back from its pack; `coded` is undefined when it is not what it should be. */
export interface ReadChunk {
  readonly place: ChunkPlace;
  readonly coded: Buffer | undefined;
}

/**
 * Reads chunks of one pack back, inflates them and compares everything, some MiB at a time.
 *
 * @param places in file order
 * @returns the chunks in the same order, a few at a time
 */
export async function* readPackChunks(
  { workers, packFiles }: LibraryContext,
  places: readonly ChunkPlace[],
): AsyncGenerator<ReadChunk[], void, undefined> {
  for (let next = 0; next < places.length; ) {
    const first = places[next] as ChunkPlace;
    const some: ChunkPlace[] = [];
    let endBytes = first.offsetBytes;
    for (let place = places[next]; place !== undefined; place = places[next]) {
      const placeEnd = place.offsetBytes + place.codedBytes;
      if (some.length > 0 && placeEnd - first.offsetBytes > READ_BYTES) break;
      some.push(place);
      endBytes = placeEnd;
      next += 1;
    }
    const length = endBytes - first.offsetBytes;
    const bytes = await packFiles.read(first.packId, first.offsetBytes, length);
    const coded = await Promise.all(
      some.map(async (place) => {
        const start = place.offsetBytes - first.offsetBytes;
        // Where all of them cannot be read at once, one bad sector must not condemn its neighbours.
        return (
          bytes?.subarray(start, start + place.codedBytes) ??
          (await packFiles.read(place.packId, place.offsetBytes, place.codedBytes))
        );
      }),
    );
    const problems = await workers.check(
      some.map((place, i) => ({ ...place, coded: coded[i] ?? Buffer.alloc(0) })),
    );
    yield some.map((place, i) => {
      const isSound = coded[i]?.length === place.codedBytes && problems[i] === undefined;
      return { place, coded: isSound ? coded[i] : undefined };
    });
  }
}
