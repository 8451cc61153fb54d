import { describe, expect, it } from "vitest";
import { isWellFormed } from "../../src/api-keys/index.ts";
import { hashOf, mintKeyId, mintValue } from "../../src/api-keys/value.ts";

describe("values", () => {
  it("are well formed, of one length, and never the same", () => {
    const minted = Array.from({ length: 500 }, mintValue);
    for (const { value, prefix } of minted) {
      expect(value).toMatch(/^kt_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$/);
      expect(value.startsWith(`${prefix}_`)).toBe(true);
      expect(isWellFormed(value)).toBe(true);
    }
    expect(new Set(minted.map(({ value }) => value)).size).toBe(500);
  });

  it("betray any single wrong character", () => {
    const { value } = mintValue();
    for (let place = 0; place < value.length; place++) {
      const other = value[place] === "x" ? "y" : "x";
      expect(isWellFormed(value.slice(0, place) + other + value.slice(place + 1)), `at ${place}`).toBe(false);
    }
    for (const text of ["", "kt_", `${value} `, `${value}0`, value.slice(1)]) expect(isWellFormed(text)).toBe(false);
  });

  it("share nothing with key ids and their hashes", () => {
    const { value } = mintValue();
    const id = mintKeyId();
    expect(id).toMatch(/^key_[0-9a-f]{16}$/);
    expect(hashOf(value)).not.toContain(id.slice(4));
    expect(value).not.toContain(id.slice(4));
  });
});
