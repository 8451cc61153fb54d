import { describe, expect, test } from "vitest";
import type { Closing } from "../../src/core/facts.ts";
import type { EffectKind, SecretState } from "../../src/core/model.ts";
import { versionOf } from "../../src/core/model.ts";
import { stillOpen } from "../../src/core/edit.ts";
import { refusalOf } from "../../src/core/said.ts";
import { IllegalTransition } from "../../src/core/status.ts";
import type { Word } from "../../src/core/words.ts";
import { carriedOut } from "./scenes.ts";
import {
  after,
  at,
  AUTHORITY,
  delivery,
  EMERGENCY,
  H,
  idle,
  intent,
  MIRROR,
  overlapping,
  rotation,
  S,
  said,
  staged,
  state,
  T,
  version,
  NOW,
} from "./support.ts";

const onBoth = (id: string) => [delivery(AUTHORITY, id), delivery(MIRROR, id)];

/** What `of` was sent comes back only now: the document has closed it long ago. */
function late(
  before: SecretState,
  effect: EffectKind,
  of: string,
  to: string | null = null,
  more: Partial<Extract<Closing, { how: "done" }>> = {},
) {
  return after(before, [
    { fact: "closed", intent: intent(effect, of, to, { id: "i-late" }), closing: { how: "done", ...more } },
  ]);
}

function failed(step: string, counts = true) {
  return {
    fact: "failed",
    rotation: "r-1",
    failure: { step, reason: "provider-unavailable", message: "no answer" },
    retryIn: S,
    counts,
  } as const;
}

describe("3.6 facts about the world are accepted, however late", () => {
  const issued = { keyId: "K9", createdAt: T - H };
  test.each(["abandoned", "destroyed"] as const)("a key id for an %s version reopens it as debt", (status) => {
    const v2 = version("v2", status, { keyId: null, createdAt: null, staged: false, deletedAt: T - H });
    const told = late(idle({ versions: [version("v1", "current"), v2] }), "issue", "v2", null, issued);
    expect(versionOf(told, "v2")).toMatchObject({ status: "abandoned", keyId: "K9" });
    expect(told.versions.find(({ id }) => id === "v1")?.status).toBe("current");
  });

  test("a rotation that the end of its key pulled forward says so", () => {
    const begun = after(idle(), [
      { fact: "begun", id: "r-2", reason: "scheduled", actor: "schedule", expiresAt: T + H },
    ]);
    expect(begun.outbox.events.map(({ type, data }) => [type, data.expiresAt])).toEqual([
      ["started", undefined],
      ["expiring", new Date(T + H).toISOString()],
    ]);
  });

  test("what was seen dead and is listed again is no longer dead", () => {
    const before = idle({ versions: [version("v1", "current"), version("v0", "destroyed", { deletedAt: T - H })] });
    const found = after(before, [
      { fact: "key-found", version: "v0", keyId: "key-v0", dates: { createdAt: T }, inferred: false },
    ]);
    expect(versionOf(found, "v0")).toMatchObject({ status: "abandoned", deletedAt: null });
  });

  test("a key that comes after a rollback is never pending: nobody wants it", () => {
    const minting = version("v2", "minting", { keyId: null, staged: false });
    const begun = idle({ versions: [version("v1", "current"), minting], rotation: rotation("v1", "v2") });
    const told = late(said(begun, { word: "rollback" }), "issue", "v2", null, issued);
    expect(versionOf(told, "v2")).toMatchObject({ status: "abandoned", keyId: "K9" });
  });

  test.each([
    ["promote", "vault"],
    ["put", "env"],
  ] as const)("a late %s voids what is known of the store, and of no other", (effect, to) => {
    const before = overlapping(H, { deliveries: onBoth("v2") });
    const told = late(before, effect, "v1", to);
    const [hit, other] = to === "vault" ? told.deliveries : told.deliveries.toReversed();
    expect(hit).toMatchObject({ serves: "v2", confirmedAt: null, writtenAt: null });
    expect(other).toMatchObject({ serves: "v2", confirmedAt: T - H });
    expect(versionOf(told, "v1")?.leftOpen).toEqual([to]);
    expect(told.versions.map(({ status }) => status)).toEqual(["retiring", "current"]);
  });

  test.each(["disable", "delete", "enable"] as const)(
    "a late %s proves nothing of the key: the listing will",
    (effect) => {
      const before = overlapping(H);
      expect(versionOf(late(before, effect, "v1"), "v1")).toEqual(versionOf(before, "v1"));
    },
  );

  test("a late discard does not say that the value is gone", () => {
    expect(versionOf(late(overlapping(H), "discard", "v1", "vault"), "v1")?.staged).toBe(true);
  });
});

describe("3.1 how an intent is closed", () => {
  const open = (effect: EffectKind, of: string, to: string | null = null) =>
    after(overlapping(H), [{ fact: "intended", intent: intent(effect, of, to), mint: null }]);
  const unknown = { how: "unknown", settle: 5 * S } as const;

  test("unknown: it may land until its duration and settle have passed since the commit", () => {
    const sent = open("disable", "v1");
    const closed = after(sent, [{ fact: "closed", intent: intent("disable", "v1"), closing: unknown }], at(90 * S));
    expect(closed.intent).toBeNull();
    expect(stillOpen(closed, at(90 * S))).toEqual([]);
    const soon = after(sent, [{ fact: "closed", intent: intent("disable", "v1"), closing: unknown }], at(10 * S));
    expect(soon.mayLand).toEqual([{ id: "i-1", effect: "disable", version: "v1", delivery: null, until: T + 20 * S }]);
    expect(versionOf(soon, "v1")).toMatchObject({ status: "retiring", disabledAt: null });
  });

  test("an entry leaves by time alone: no success, take-over or word removes it", () => {
    const waiting = after(
      open("disable", "v1"),
      [{ fact: "closed", intent: intent("disable", "v1"), closing: unknown }],
      at(S),
    );
    const lease = { runner: "b", host: "h", pid: 1, actor: "bob", duration: 15 * S };
    const busy = after(
      carriedOut(waiting, intent("disable", "v1", null, { id: "i-2" })),
      [
        { fact: "leased", lease },
        { fact: "key-state", version: "v1", state: "disabled" },
        { fact: "said", word: { word: "unlock" }, by: "ada", id: "x" },
        { fact: "said", word: { word: "rotate", repair: true }, by: "ada", id: "x" },
        { fact: "released", runner: "b" },
      ],
      at(19 * S),
    );
    expect(busy.mayLand.map(({ id }) => id)).toEqual(["i-1"]);
    expect(after(busy, [{ fact: "leased", lease }], at(20 * S + 1)).mayLand).toEqual([]);
  });

  test("applied no closes it without an entry", () => {
    const refused = after(open("put", "v2", "vault"), [
      { fact: "closed", intent: intent("put", "v2", "vault"), closing: { how: "refused" } },
    ]);
    expect(refused).toMatchObject({ intent: null, mayLand: [] });
    expect(refused.deliveries[0]).toMatchObject({ serves: "v2", confirmedAt: T - H });
  });

  test("an issue that was certainly refused leaves no version to look for; one repeated might have made a key before", () => {
    const begun = idle({ rotation: rotation("v1", null) });
    const mint = { listedAt: T, listed: [], within: 60 * S };
    const ask = intent("issue", "v2");
    const refusal = [
      { fact: "intended", intent: ask, mint },
      { fact: "closed", intent: ask, closing: { how: "refused" } },
    ] as const;
    expect(versionOf(after(begun, refusal), "v2")).toMatchObject({ status: "abandoned", mint: null });
    const unanswered = after(begun, [refusal[0], { fact: "closed", intent: ask, closing: unknown }]);
    expect(versionOf(after(unanswered, refusal), "v2")).toMatchObject({ status: "minting" });
  });

  test("once a promote or put was intended its version is past the point of no return, whatever became of it", () => {
    const asked = after(staged(), [
      { fact: "intended", intent: intent("promote", "v2", "vault"), mint: null },
      { fact: "closed", intent: intent("promote", "v2", "vault"), closing: { how: "refused" } },
    ]);
    expect(versionOf(asked, "v2")?.exposed).toBe(true);
  });

  test("a write that succeeds overtakes what was left open there, and the overlap counts from then", () => {
    const before = overlapping(H, {
      versions: [version("v1", "retiring", { leftOpen: ["vault"] }), version("v2", "current")],
    });
    const written = carriedOut(before, intent("promote", "v2", "vault"), { ref: "r9" });
    expect(versionOf(written, "v1")?.leftOpen).toEqual([]);
    expect(written.rotation?.overlapFrom).toBeNull();
    const entry = { id: "i-0", effect: "promote", version: "v1", delivery: "vault", until: T + S } as const;
    const early = carriedOut({ ...before, mayLand: [entry] }, intent("promote", "v2", "vault"), { ref: "r9" });
    expect(versionOf(early, "v1")?.leftOpen).toEqual(["vault"]);
  });
});

describe("promise 11: a leaked version does not come back by any fact", () => {
  const leaked = (status: "pending" | "retiring" | "disabled") =>
    overlapping(H, { versions: [version("v1", status, { compromised: true }), version("v2", "current")] });
  test("not by a promote that lands, nor by being seen served", () => {
    for (const status of ["pending", "retiring", "disabled"] as const) {
      const served = { fact: "delivery-seen", delivery: "vault", serves: "v1", ref: "r", confirmed: true } as const;
      expect(versionOf(after(leaked(status), [served]), "v1")?.status).not.toBe("current");
      expect(
        versionOf(carriedOut(leaked(status), intent("promote", "v1", "vault"), { ref: "r" }), "v1")?.status,
      ).not.toBe("current");
    }
  });
  test("not by being seen enabled", () => {
    const seen = after(leaked("disabled"), [{ fact: "key-state", version: "v1", state: "enabled" }]);
    expect(versionOf(seen, "v1")).toMatchObject({ status: "disabled", disabledAt: null });
  });
  test("the stamp stands in the commit of the request", () => {
    const struck = said(staged(), EMERGENCY);
    expect(struck.versions.map(({ id, status, compromised }) => [id, status, compromised])).toEqual([
      ["v1", "current", true],
      ["v2", "abandoned", true],
    ]);
    const asked = after(staged(), [{ fact: "intended", intent: intent("promote", "v2", "vault"), mint: null }]);
    expect(versionOf(said(asked, EMERGENCY), "v2")).toMatchObject({ status: "retiring", compromised: true });
  });
});

describe("failures are counted for each step", () => {
  const begun = idle({ rotation: rotation("v1", null) });
  const counts = (s: SecretState) => Object.fromEntries((s.rotation?.failures ?? []).map((f) => [f.step, f.count]));
  test("one step's success ends its own series, nobody else's", () => {
    const twice = after(staged(), [failed("put env"), failed("promote vault"), failed("put env")]);
    expect(counts(twice)).toEqual({ "put env": 2, "promote vault": 1 });
    expect(counts(carriedOut(twice, intent("promote", "v2", "vault"), { ref: "r" }))).toEqual({ "put env": 2 });
  });
  test("a contended lock is told and waited for, and spends no attempt", () => {
    expect(counts(after(begun, [failed("issue"), failed("issue", false), failed("issue", false)]))).toEqual({
      issue: 1,
    });
  });
  test("a person's rotate starts them anew", () => {
    expect(counts(said(after(begun, [failed("issue")]), { word: "rotate", repair: false }))).toEqual({});
  });
});

describe("words that are refused change nothing and say why", () => {
  const rollingBack = said(overlapping(H), { word: "rollback" });
  const gone = (more: Parameters<typeof version>[2]) =>
    overlapping(H, { versions: [version("v1", "disabled", more), version("v2", "current")] });
  const rollback: Word = { word: "rollback" };
  const hold: Word = { word: "hold", reason: "why", until: null };
  const ack = { word: "ack", kind: "consumer", name: "web" } as const;
  const mayDelete = { id: "i", effect: "delete", version: "v1", delivery: null, until: T + S } as const;
  test.each<[name: string, before: SecretState, word: Word, reason: string | null]>([
    ["hold after a disable was committed", { ...overlapping(H), intent: intent("disable", "v1") }, hold, "too-late"],
    ["hold after a delete was committed", { ...overlapping(H), intent: intent("delete", "v1") }, hold, "too-late"],
    [
      "hold while something harmless is sent",
      { ...overlapping(H), intent: intent("promote", "v2", "vault") },
      hold,
      null,
    ],
    [
      "an ack before every store serves the new version",
      overlapping(0, { rotation: rotation("v1", "v2") }),
      ack,
      "too-early",
    ],
    ["an ack while the last store's readers may still get the old one", overlapping(-S), ack, "too-early"],
    [
      "an ack of a store, which is what the overlap waits for",
      overlapping(0, { rotation: rotation("v1", "v2") }),
      { ...ack, kind: "store" },
      null,
    ],
    ["an ack in the overlap", overlapping(0), ack, null],
    [
      "hold while a disable without an answer may still land",
      { ...overlapping(H), mayLand: [{ ...mayDelete, effect: "disable" }] },
      hold,
      "too-late",
    ],
    [
      "hold once it certainly did not",
      { ...overlapping(H), mayLand: [{ ...mayDelete, effect: "disable", until: T - S }] },
      hold,
      null,
    ],
    [
      "rollback once a delete certainly did not take place",
      { ...overlapping(H), mayLand: [{ ...mayDelete, until: T - S }] },
      rollback,
      null,
    ],
    [
      "revoke of a version that is still being made",
      idle({ versions: [version("v1", "current"), version("v2", "minting")], rotation: rotation("v1", "v2") }),
      { word: "revoke", version: "v2", compromised: true },
      null,
    ],
    ["rollback with nothing in flight", idle(), rollback, "nothing-to-roll-back-to"],
    [
      "rollback of the first key",
      state({ versions: [version("v1", "current")], rotation: rotation(null, "v1") }),
      rollback,
      "nothing-to-roll-back-to",
    ],
    [
      "rollback before the first key was shown to anybody",
      state({ versions: [version("v1", "pending")], rotation: rotation(null, "v1") }),
      rollback,
      null,
    ],
    ["rollback to a leaked key", gone({ compromised: true }), rollback, "compromised"],
    ["rollback to a deleted key", gone({ deletedAt: T - S }), rollback, "nothing-to-roll-back-to"],
    [
      "rollback after the delete was committed",
      { ...gone({}), intent: intent("delete", "v1") },
      rollback,
      "nothing-to-roll-back-to",
    ],
    ["rollback while the delete may land", { ...gone({}), mayLand: [mayDelete] }, rollback, "nothing-to-roll-back-to"],
    ["rollback during an emergency", said(overlapping(H), { ...EMERGENCY, versions: ["v1"] }), rollback, "compromised"],
    ["rollback out of the soak", gone({}), rollback, null],
    ["rollback once more", rollingBack, rollback, null],
    ["ack where nothing is served", state(), { word: "ack", kind: "consumer", name: "web" }, "unmanaged"],
    ["emergency where no key is known", state(), EMERGENCY, "unmanaged"],
    ["revoke of an old version", overlapping(H), { word: "revoke", version: "v1", compromised: false }, null],
    ["release of a stranger's key", overlapping(H), { word: "release", keyId: "AKIASTRANGER" }, null],
  ])("%s", (_name, before, word, reason) => {
    expect(refusalOf(before, word, NOW)?.reason ?? null).toBe(reason);
  });

  test.each<[name: string, before: SecretState, word: Word]>([
    ["revoke of the current version", overlapping(H), { word: "revoke", version: "v2", compromised: false }],
    [
      "revoke of the version that a rollback leads to",
      rollingBack,
      { word: "revoke", version: "v1", compromised: false },
    ],
    ["revoke of what is unknown", overlapping(H), { word: "revoke", version: "v9", compromised: false }],
    [
      "revoke of what is dead",
      overlapping(H, { versions: [version("v1", "destroyed"), version("v2", "current")] }),
      { word: "revoke", version: "v1", compromised: false },
    ],
    ["emergency of what is unknown", overlapping(H), { ...EMERGENCY, versions: ["v9"] }],
    ["release of our own key", overlapping(H), { word: "release", keyId: "key-v1" }],
  ])("%s", (_name, before, word) => {
    const refusal = refusalOf(before, word, NOW);
    expect(refusal).not.toBeNull();
    expect(refusal?.message).toMatch(/v1|v2|v9|key-v1/);
  });
});

describe("what people say", () => {
  test("rollback's target is fixed when it is first said", () => {
    const back = said(overlapping(H), { word: "rollback" });
    expect(back.rotation).toMatchObject({ from: "v1", rollback: { by: "ada" }, overlapFrom: null });
    expect(said(back, { word: "rollback" }).rotation).toEqual(back.rotation);
  });
  test("rollback then rotate: a new rotation begins when the rolled back one has ended", () => {
    const queued = said(said(overlapping(H), { word: "rollback" }), { word: "rotate", repair: false });
    expect(queued.rotation?.rollback).not.toBeNull();
    expect(after(queued, [{ fact: "ended" }])).toMatchObject({
      rotation: { reason: "manual", to: null, rollback: null },
      queued: null,
      stopped: null,
    });
  });
  test("emergency wins over rollback", () => {
    const struck = said(said(overlapping(H), { word: "rollback" }), EMERGENCY);
    expect(struck).toMatchObject({ stopped: null, rotation: { reason: "emergency", rollback: null } });
  });
  test.each<Word>([{ word: "rollback" }, EMERGENCY, { word: "unlock" }])(
    "$word fences whoever holds the lease",
    (word) => {
      const lease = { runner: "a", host: "h", pid: 1, actor: "ci", duration: 15 * S };
      const held = after(overlapping(H), [{ fact: "leased", lease }]);
      expect(said(held, word)).toMatchObject({ lease: null, epoch: held.epoch + 1 });
    },
  );
  test("every word moves the revision that an intent would rest on; the renewal of a lease does not", () => {
    const lease = { runner: "a", host: "h", pid: 1, actor: "ci", duration: 15 * S };
    const held = after(overlapping(H), [{ fact: "leased", lease }]);
    expect(said(held, { word: "hold", reason: "why", until: null }).seq).toBe(held.seq + 1);
    expect(after(held, [{ fact: "renewed", runner: "a" }]).seq).toBe(held.seq);
  });
  test("an ack is about the version that is wanted now", () => {
    const acked = said(overlapping(H), { word: "ack", kind: "consumer", name: "web" });
    expect(acked.acks).toMatchObject([{ name: "web", version: "v2", by: "ada" }]);
    expect(said(acked, { word: "ack", kind: "consumer", name: "web" }).acks).toHaveLength(1);
  });
});

test("a version that may not go where a fact would move it is a bug, not a guess", () => {
  expect(() => after(overlapping(H), [{ fact: "dead", version: "v2" }])).toThrow(IllegalTransition);
});

test("ten terminal versions are kept, and every living one", () => {
  const dead = Array.from({ length: 30 }, (_, i) => version(`d${i}`, "destroyed", { staged: false }));
  const trimmed = said(idle({ versions: [...dead, version("v1", "current")] }), { word: "unhold" });
  expect(trimmed.versions.map(({ id }) => id)).toEqual([...dead.slice(20).map(({ id }) => id), "v1"]);
});
