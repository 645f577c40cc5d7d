import { IngotError } from '../../base/index.ts';

/** A path inside an image, as a user writes it. */
export interface ImagePath {
  readonly image: string;
  /** As the kernel numbers partitions; undefined: the only one that can be read. */
  readonly partition: number | undefined;
  /** Absolute. */
  readonly path: string;
}

/**
 * Reads `IMG`, `IMG:PATH` and `IMG:PARTITION:PATH`, such as `img-y22uq:2:/etc/hostname`.
 *
 * @throws IngotError `request-invalid`
 */
export function parseImagePath(text: string): ImagePath {
  const match = /^([^:]+)(?::(\d{1,3})(?=:|$))?(?::(.*))?$/s.exec(text);
  const [, image, partition, path = ''] = match ?? [];
  if (image === undefined) {
    throw new IngotError('request-invalid', `${text} is no IMAGE:PATH or IMAGE:PARTITION:PATH`);
  }
  return {
    image,
    partition: partition === undefined ? undefined : Number(partition),
    path: path.startsWith('/') ? path : `/${path}`,
  };
}
