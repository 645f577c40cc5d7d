/**
 * Runs work side by side and gives the results in the order of the work.
 *
 * At most `width` pieces of work are under way or waiting to be taken, so memory is bounded. When
 * the caller stops early or one piece fails, the others are waited for before it ends.
 *
 * @param jobs each starts its work when it is called
 * @param width 1 or more
 */
export async function* inOrder<T>(
  jobs: AsyncIterable<() => Promise<T>>,
  width: number,
): AsyncGenerator<T, void, undefined> {
  const running: Promise<T>[] = [];
  try {
    for await (const job of jobs) {
      const promise = job();
      // Its failure is met when its turn comes; until then nobody else listens.
      promise.catch(() => undefined);
      running.push(promise);
      const first = running.length >= width ? running.shift() : undefined;
      if (first !== undefined) yield await first;
    }
    for (let next = running.shift(); next !== undefined; next = running.shift()) yield await next;
  } finally {
    await Promise.allSettled(running);
  }
}
