import { expect, test } from "vitest";
import { newState } from "../../src/core/model.ts";
import { after, intent, T } from "./support.ts";

test("a key that arrives for a version the document does not have is debt, never lost", () => {
  const closing = { how: "done", keyId: "key-lost", dates: { createdAt: T } } as const;
  const late = after(newState("one", T), [{ fact: "closed", intent: intent("issue", "v1-x"), closing }]);
  expect(late.versions).toMatchObject([{ id: "v1-x", status: "abandoned", keyId: "key-lost" }]);
});
