/** Keys and indexes from the top of the policy down. */
export type Path = readonly (string | number)[];

/** What secrets, stores, notifiers and consumers may be called. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** `secrets.payments.stores[0].use`. A key that does not look like one is masked: it may be a value gone astray. */
export function formatPath(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else
      text +=
        (text === "" ? "" : ".") +
        (/^[A-Za-z_][A-Za-z0-9._-]{0,62}$|^[0-9][A-Za-z0-9._-]{0,62}$/.test(step) ? step : "…");
  }
  return text;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The own property, never an inherited one: `constructor` is a fine name for a secret. */
export function own(value: unknown, key: string | number): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string | number, unknown>)[key];
}

export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((inner, step) => own(inner, step), value);
}
