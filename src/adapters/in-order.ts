import { UserError } from "../core/errors.ts";

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

/**
 * All that can be read of so many items; null is left out.
 *
 * @throws UserError the first that `read` threw, after everything else was handed out
 */
export async function* readable<A, B>(
  items: Iterable<A> | AsyncIterable<A>,
  atOnce: number,
  read: (item: A) => B | null | Promise<B | null>,
): AsyncIterable<B> {
  let failure: UserError | null = null;
  const tried = async (item: A): Promise<B | UserError | null> => {
    try {
      return await read(item);
    } catch (error) {
      if (error instanceof UserError) return error;
      throw error;
    }
  };
  for await (const one of inOrder(items, atOnce, tried)) {
    if (one instanceof UserError) failure ??= one;
    else if (one !== null) yield one;
  }
  if (failure !== null) throw failure;
}
