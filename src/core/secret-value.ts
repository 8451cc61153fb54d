const MASK = "[secret]";

/**
 * Secret material: named string fields, for example `accessKeyId` and `secretAccessKey`.
 *
 * However it is printed (template, `String`, JSON, `util.inspect`, a debugger's own properties) it says
 * `[secret]`; the only way to the material is {@link SecretValue.reveal}, so that a search for that word
 * finds every place where a value leaves this object.
 */
export class SecretValue {
  readonly #fields: ReadonlyMap<string, string>;

  private constructor(fields: ReadonlyMap<string, string>) {
    this.#fields = fields;
    Object.freeze(this);
  }

  /** @throws TypeError when there is no field, or a field is empty or no string: an empty value is never delivered. */
  static of(fields: Readonly<Record<string, string>>): SecretValue {
    const entries = Object.entries(fields);
    if (entries.length === 0) throw new TypeError("a secret value needs at least one field");
    for (const [name, value] of entries) {
      if (typeof value !== "string" || value === "") throw new TypeError(`field ${name} of a secret value is empty`);
    }
    return new SecretValue(new Map(entries));
  }

  get fieldNames(): readonly string[] {
    return [...this.#fields.keys()];
  }

  /** The material. Call it only where the value is handed to a provider, a store or a consumer. */
  reveal(): Record<string, string> {
    return Object.fromEntries(this.#fields);
  }

  /** Same field names, same values. */
  equals(other: SecretValue): boolean {
    return this.#fields.size === other.#fields.size && this.includes(other);
  }

  /** Only these fields; null when one of them is missing. */
  pick(names: readonly string[]): SecretValue | null {
    const picked = names.map((name) => [name, this.#fields.get(name)] as const);
    if (picked.length === 0 || picked.some(([, value]) => value === undefined)) return null;
    return new SecretValue(new Map(picked as readonly (readonly [string, string])[]));
  }

  /** Every field of `part` is here with the same value: what a store that holds only some fields is judged by. */
  includes(part: SecretValue): boolean {
    for (const [name, value] of part.#fields) if (this.#fields.get(name) !== value) return false;
    return true;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [Symbol.toPrimitive](): string {
    return MASK;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return MASK;
  }
}
