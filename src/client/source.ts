/** One version of a secret as it is served: its id and its named fields. */
export interface Served {
  readonly version: string;
  readonly value: Readonly<Record<string, string>>;
}

/** Where the current version comes from. Asked again and again, so it should be cheap while nothing changes. */
export type KeySource = () => Promise<Served>;
