import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ourFields, withOurFields, type Layout } from "../../src/adapters/aws-body.ts";
import { SecretValue } from "../../src/core/secret-value.ts";

const layout: Layout = { plain: false, fields: { ID: "id", KEY: "key" } };
const value = SecretValue.of({ id: "the id", key: 'a "key"\n\\' });
const key = JSON.stringify('a "key"\n\\');

describe("our fields in other people's JSON", () => {
  it.each([
    ["nothing", null, `{"ID":"the id","KEY":${key}}`],
    ["an empty object", "{}", `{"ID":"the id","KEY":${key}}`],
    ["an empty object with room", " {\n} ", ` {"ID":"the id","KEY":${key}\n} `],
    ["ours alone", '{"ID":"x","KEY":"y"}', `{"ID":"the id","KEY":${key}}`],
    [
      "siblings around",
      '{"a":1.0,"ID":"x","b":[{}],"KEY":"","c":null}',
      `{"a":1.0,"ID":"the id","b":[{}],"KEY":${key},"c":null}`,
    ],
    [
      "one missing",
      '{"KEY" : null , "n": 12345678901234567890}',
      `{"KEY" : ${key} , "n": 12345678901234567890,"ID": "the id"}`,
    ],
    ["printed over lines", '{\n  "a": true\n}\n', `{\n  "a": true,\n  "ID": "the id",\n  "KEY": ${key}\n}\n`],
    ["a name spelled otherwise", '{"\\u0049D":"x","KEY":"y"}', `{"\\u0049D":"the id","KEY":${key}}`],
    [
      "a name that nests",
      '{"n":{"ID":"not ours"},"ID":"x","KEY":0e1}',
      `{"n":{"ID":"not ours"},"ID":"the id","KEY":${key}}`,
    ],
    ["a member given twice", '{"ID":"x","ID":"y","KEY":"z"}', `{"ID":"the id","ID":"the id","KEY":${key}}`],
  ])("%s", (_, before, after) => {
    expect(withOurFields(before, value, layout)).toBe(after);
    expect(ourFields(after, layout)?.equals(value)).toBe(true);
    expect(withOurFields(after, value, layout)).toBe(after);
  });

  it("keeps whatever else any object holds, and gives back what it was given", () => {
    const text = fc
      .tuple(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, 1, "\t"))
      .map(([object, indent]) => JSON.stringify(object, null, indent));
    const word = fc.string({ minLength: 1 });
    fc.assert(
      fc.property(text, word, word, (before, id, key) => {
        const set = SecretValue.of({ id, key });
        const after = withOurFields(before, set, layout);
        expect({ ...JSON.parse(after) }).toEqual({ ...JSON.parse(before), ID: id, KEY: key });
        expect(ourFields(after, layout)?.equals(set)).toBe(true);
      }),
    );
  });

  it("tells absent, empty and partly there", () => {
    expect(ourFields('{"a":"b","ID":"","KEY":null}', layout)).toBeNull();
    expect(ourFields('{"ID":"x"}', layout)?.reveal()).toEqual({ id: "x" });
  });

  it("refuses what is no object of strings, and quotes nothing of it", () => {
    for (const text of ["canary", '["canary"]', '"canary"', "{canary", '{"ID":{"canary":1}}', '{"ID":7}']) {
      const error = (() => {
        try {
          return ourFields(text, layout);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(error).toMatchObject({ kind: "invalid", applied: "no" });
      expect(JSON.stringify([String(error), error])).not.toContain("canary");
    }
  });
});

describe("plain text", () => {
  const plain: Layout = { plain: true, fields: { value: "apiKey" } };
  it("is the field itself", () => {
    expect(withOurFields("anything", SecretValue.of({ apiKey: "{}" }), plain)).toBe("{}");
    expect(ourFields("{}", plain)?.reveal()).toEqual({ apiKey: "{}" });
  });

  it("holds one field", () => {
    expect(() => withOurFields(null, value, { ...layout, plain: true })).toThrow("exactly one field");
  });
});
