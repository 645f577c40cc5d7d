import { errnoOf, IngotError } from '../../base/index.ts';

/** Names a target's errno as a failure. */
export function targetFailure(thrown: unknown, name: string): unknown {
  const errno = errnoOf(thrown);
  if (thrown instanceof IngotError || errno === undefined) return thrown;
  const options = { cause: thrown };
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new IngotError('target-full', `${name} has no space left`, { errno }, options);
    case 'EPIPE':
    case 'ECONNRESET':
      return new IngotError('target-closed', `the reader of ${name} went away`, {}, options);
    case 'EBUSY':
      return new IngotError('target-in-use', `${name} is mounted or open elsewhere`, {}, options);
    case 'ENOENT':
    case 'ENOTDIR':
      return new IngotError('file-not-found', `${name} has no folder`, { errno }, options);
    default:
      return new IngotError(
        'target-unwritable',
        `${name} cannot be written: ${errno}`,
        { errno },
        options,
      );
  }
}
