import { Console } from "node:console";
import { Writable } from "node:stream";
import { inspect } from "node:util";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SecretValue } from "../../src/core/secret-value.ts";

const CANARY = "kt_canary77XvLw0Zr8";
const value = SecretValue.of({ accessKeyId: `${CANARY}-id`, secretAccessKey: CANARY });

function printed(...what: readonly unknown[]): string {
  let text = "";
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  new Console(stream).log(...what);
  return text;
}

test.each([
  ["String", () => String(value)],
  ["a template", () => `${value}`],
  ["concatenation", () => "" + (value as unknown as string)],
  ["toString", () => value.toString()],
  ["util.inspect", () => inspect(value)],
  ["util.inspect of everything", () => inspect(value, { showHidden: true, depth: null, getters: true })],
])("promise 9: a value prints [secret]: %s", (_name, print) => {
  expect(print()).toBe("[secret]");
});

test("promise 9: so it does inside of anything", () => {
  const nested = {
    deep: [{ value, map: new Map([["value", value]]), set: new Set([value]) }],
    error: new Error("x", { cause: value }),
  };
  for (const text of [
    JSON.stringify({ value, list: [value] }),
    inspect(nested, { showHidden: true, depth: null, getters: true }),
    printed("%s %o %O %j", value, nested, nested, { value }),
    printed(nested, value),
    printed(value),
  ]) {
    expect(text).toContain("[secret]");
    expect(text).not.toContain(CANARY);
  }
});

test("promise 9: nor is it among what a debugger, a clone or an assertion can enumerate", () => {
  expect(Object.getOwnPropertyNames(value)).toEqual([]);
  expect(Object.getOwnPropertySymbols(value)).toEqual([]);
  expect({ ...value }).toEqual({});
  expect(JSON.stringify(structuredClone({ ...value }))).not.toContain(CANARY);
  expect(Object.isFrozen(value)).toBe(true);
});

test.each([
  [{}],
  [{ key: "" }],
  [{ key: "x", other: "" }],
  [{ key: 5 as unknown as string }],
  [{ key: null as unknown as string }],
])("promise 10: %j is refused, and the refusal quotes nothing", (fields) => {
  expect(() => SecretValue.of({ ...fields })).toThrow(TypeError);
  expect(() => SecretValue.of({ secret: CANARY, ...fields, empty: "" })).toThrow(/^(?!.*canary).*$/);
});

test("it is revealed as it was given, as a copy", () => {
  const fields = fc.dictionary(fc.string({ minLength: 1 }), fc.string({ minLength: 1 }), {
    minKeys: 1,
    noNullPrototype: true,
  });
  fc.assert(
    fc.property(fields, (given) => {
      const made = SecretValue.of(given);
      expect(made.reveal()).toEqual(given);
      expect(made.fieldNames).toEqual(Object.keys(given));
      const copy = made.reveal();
      copy["more"] = "x";
      expect(made.equals(SecretValue.of(given))).toBe(true);
    }),
  );
});

test("two are equal by their names and values alone", () => {
  const same = SecretValue.of({ secretAccessKey: CANARY, accessKeyId: `${CANARY}-id` });
  expect(value.equals(same)).toBe(true);
  expect(value.equals(SecretValue.of({ accessKeyId: `${CANARY}-id`, secretAccessKey: "other" }))).toBe(false);
  expect(value.equals(SecretValue.of({ secretAccessKey: CANARY }))).toBe(false);
  expect(SecretValue.of({ secretAccessKey: CANARY }).equals(value)).toBe(false);
});

test("some of its fields: all that are asked for, or none", () => {
  const part = value.pick(["secretAccessKey"]);
  expect(part?.reveal()).toEqual({ secretAccessKey: CANARY });
  expect(part !== null && value.includes(part)).toBe(true);
  expect(part?.includes(value)).toBe(false);
  expect(value.pick(["secretAccessKey", "missing"])).toBeNull();
  expect(value.pick([])).toBeNull();
});
