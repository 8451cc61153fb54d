const turns = new Map<string, Promise<unknown>>();

/** Effects on one object (two secrets in one JSON, twenty in one file) take turns within this process. */
export async function serialised<T>(object: string, task: () => Promise<T>): Promise<T> {
  const before = turns.get(object) ?? Promise.resolve();
  const turn = before.then(task, task);
  const settled = turn.catch(() => undefined);
  turns.set(object, settled);
  try {
    return await turn;
  } finally {
    if (turns.get(object) === settled) turns.delete(object);
  }
}
