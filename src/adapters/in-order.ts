/** Does the work for so many items at a time, and hands out the results in the order of the items. */
export async function* inOrder<A, B>(
  items: Iterable<A> | AsyncIterable<A>,
  atOnce: number,
  work: (item: A) => Promise<B>,
): AsyncIterable<B> {
  const begun: Promise<B>[] = [];
  for await (const item of items) {
    const one = work(item);
    // Whoever waits for the ones before it hears of its failure later.
    one.catch(() => {});
    begun.push(one);
    if (begun.length === atOnce) yield await (begun.shift() as Promise<B>);
  }
  for (const one of begun) yield await one;
}
