import { expect, test } from "vitest";
import { nearest } from "../../src/config/nearest.ts";
import { selectSecrets } from "../../src/config/select.ts";
import { ISSUER, load } from "./support.ts";

test("the nearest name is near", () => {
  expect(nearest("sotres", ["secrets", "stores"])).toBe("stores");
  expect(nearest("Payments", ["payments", "payment"])).toBe("payments");
  expect(nearest("a", ["b"])).toBe("b");
  expect(nearest("wholly-different", ["stores"])).toBeNull();
  expect(nearest("x", [])).toBeNull();
});

const policy = `version: 1
stores: { env: { type: dotenv, path: a.env } }
secrets:
  a: { ${ISSUER}, stores: [{ type: local }], tags: [prod, pci] }
  b: { ${ISSUER}, stores: [{ use: env, fields: { B: apiKey } }], tags: [prod] }
  c: { ${ISSUER}, stores: [{ type: local, name: sea }] }
`;

test("secrets are chosen by name, or by what all selectors name", async () => {
  const { policy: loaded } = await load(policy);
  const chosen = (...args: Parameters<typeof selectSecrets> extends [unknown, ...infer R] ? R : never) =>
    selectSecrets(loaded, ...args).map(({ name }) => name);
  expect(chosen({ names: ["c", "a"] })).toEqual(["a", "c"]);
  expect(chosen({ tag: "prod" })).toEqual(["a", "b"]);
  expect(chosen({ tag: "prod", store: "env" })).toEqual(["b"]);
  expect(chosen({ store: "dotenv" })).toEqual(["b"]);
  expect(chosen({ issuer: "api-keys" })).toEqual(["a", "b", "c"]);
  expect(chosen({ all: true })).toEqual(["a", "b", "c"]);
  expect(chosen({}, "all")).toEqual(["a", "b", "c"]);
});

test("what does not exist is refused with the nearest name", async () => {
  const { policy: loaded } = await load(policy);
  const error = (selection: Parameters<typeof selectSecrets>[1]) => {
    try {
      return selectSecrets(loaded, selection);
    } catch (thrown) {
      return thrown;
    }
  };
  expect(error({ names: ["d"] })).toMatchObject({
    code: "unknown-secret",
    message: 'unknown secret "d"',
    options: { exit: 2, hints: ['did you mean "a"?'] },
  });
  expect(error({ tag: "prodd" })).toMatchObject({ code: "unknown-tag", options: { hints: ['did you mean "prod"?'] } });
  expect(error({ store: "nowhere" })).toMatchObject({
    code: "unknown-store",
    options: { hints: ["known are local, env, dotenv"] },
  });
  expect(error({ names: ["a"], all: true })).toMatchObject({ code: "usage", options: { exit: 2 } });
  expect(error({})).toMatchObject({ code: "usage" });
});
