import { InvalidArgumentError } from '@commander-js/extra-typings';
import { type ImagePlace, imagePath, parseImagePlace } from '../../../../publish/index.ts';

/** Reads an argument of the form `IMAGE:PATH`; a slash at its end means nothing. */
export function imagePlaceArgument(text: string): ImagePlace {
  const place = parseImagePlace(text);
  if (place === undefined) {
    throw new InvalidArgumentError(
      'it has the form IMAGE:PATH; an IMAGE ends in .mender, .sdimg, .uefiimg or .img.',
    );
  }
  return { ...place, path: imagePath(place.path) };
}
