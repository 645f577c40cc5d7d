/**
 * Maps items with several calls at once, and yields the results in the order of the items.
 *
 * However it ends, no call is left running: a failure or an early `return` waits for those that
 * have begun, and hands their results to `discard`.
 *
 * @param limit how many results are under way or waiting to be taken
 */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  map: (item: T) => Promise<R>,
  { limit, discard }: { readonly limit: number; readonly discard?: (result: R) => void },
): AsyncGenerator<R, void, undefined> {
  const waiting: Promise<R>[] = [];
  const start = (item: T): void => {
    const running = map(item);
    // It is awaited below; until then its failure is not unhandled.
    running.catch(() => undefined);
    waiting.push(running);
  };
  try {
    for await (const item of items) {
      start(item);
      if (waiting.length >= limit) yield await takeFirst(waiting);
    }
    while (waiting.length > 0) yield await takeFirst(waiting);
  } finally {
    for (const settled of await Promise.allSettled(waiting)) {
      if (settled.status === 'fulfilled') discard?.(settled.value);
    }
  }
}

async function takeFirst<R>(waiting: Promise<R>[]): Promise<R> {
  const first = waiting.shift();
  if (first === undefined) throw new Error('nothing is waiting');
  return await first;
}
