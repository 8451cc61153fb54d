import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newState, type SecretState } from "../../src/core/model.ts";
import type { AuditEntry, Loaded, StateBackend } from "../../src/ports/state.ts";

/** One empty place for state. */
export interface StateUnderTest {
  /** A backend on that place as one more process would open it; the suite closes it. */
  open(): Promise<StateBackend>;
  /** Moves the backend's clock on, where the test holds it; null: it goes by itself. */
  readonly advance: ((ms: number) => void) | null;
  /** Behind everybody's back makes something of a document that nobody can read. */
  damage(name: string): Promise<void>;
  /** As `open`, of a process whose changes of a document happen and are never answered; null: that cannot be. */
  readonly openUnheard: (() => Promise<StateBackend>) | null;
  dispose(): Promise<void>;
}

/** What `src/ports/state.ts` asks of every backend. */
export function stateBackendContract(name: string, make: () => Promise<StateUnderTest>): void {
  describe(`${name}: state backend contract`, () => {
    let place: StateUnderTest;
    let opened: StateBackend[];
    const open = async (how: StateUnderTest["open"] = place.open): Promise<StateBackend> => {
      const backend = await how();
      opened.push(backend);
      return backend;
    };
    beforeEach(async () => {
      opened = [];
      place = await make();
    });
    afterEach(async () => {
      for (const backend of opened) await backend.close();
      await place.dispose();
    });

    it("has nothing to begin with", async () => {
      const state = await open();
      expect(await state.load("payments")).toBeNull();
      expect(await collect(state.loadAll())).toEqual([]);
      expect(await state.audit.read(null, 10)).toEqual([]);
    });

    it("gives back what was saved, to another process too", async () => {
      const state = await open();
      const saved = await save(state, document("payments", "c1"), null);
      for (const reader of [state, await open()]) {
        expect(await reader.load("payments")).toMatchObject({ revision: saved, state: document("payments", "c1") });
        expect(await collect(reader.loadAll())).toMatchObject([{ revision: saved, state: document("payments", "c1") }]);
      }
    });

    it("saves only over the revision that was expected", async () => {
      const state = await open();
      const first = await save(state, document("payments", "c1"), null);
      expect(await state.save("payments", document("payments", "c2"), null)).toEqual({ result: "stale" });
      const second = await save(state, document("payments", "c3"), first);
      expect(second).not.toBe(first);
      expect(await state.save("payments", document("payments", "c4"), first)).toEqual({ result: "stale" });
      expect(await state.save("other", document("other", "c5"), second)).toEqual({ result: "stale" });
      expect(await state.save("payments", document("payments", "c6"), "no revision")).toEqual({ result: "stale" });
      expect((await state.load("payments"))?.state.commitId).toBe("c3");
      expect(await state.load("other")).toBeNull();
    });

    it("sees at once what another process saved", async () => {
      const [one, two] = [await open(), await open()];
      let revision: string | null = null;
      for (let i = 0; i < 6; i++) {
        const [writer, reader] = i % 2 === 0 ? [one, two] : [two, one];
        revision = await save(writer, document("payments", `c${i}`), revision);
        expect(await reader.load("payments")).toMatchObject({ revision, state: { commitId: `c${i}` } });
        expect(await collect(reader.loadAll())).toMatchObject([{ revision, state: { name: "payments" } }]);
      }
    });

    it("lets one of many writers of the same revision win", async () => {
      const backends = await Promise.all(Array.from({ length: 5 }, () => open()));
      const first = await save(backends[0] as StateBackend, document("payments", "c0"), null);
      const results = await Promise.all(
        backends.map((backend, i) => backend.save("payments", document("payments", `w${i}`), first)),
      );
      const winners = results.flatMap(({ result }, i) => (result === "saved" ? [i] : []));
      expect(winners).toHaveLength(1);
      expect((await (await open()).load("payments"))?.state.commitId).toBe(`w${winners[0]}`);
    });

    it("lets one of many makers of the same document win", async () => {
      const backends = await Promise.all(Array.from({ length: 5 }, () => open()));
      const results = await Promise.all(
        backends.map((backend, i) => backend.save("payments", document("payments", `w${i}`), null)),
      );
      expect(results.filter(({ result }) => result === "saved")).toHaveLength(1);
    });

    it("keeps documents apart", async () => {
      const state = await open();
      const a = await save(state, document("a", "a1"), null);
      const b = await save(state, document("b", "b1"), null);
      await save(state, document("a", "a2"), a);
      expect(await state.load("b")).toMatchObject({ revision: b, state: { commitId: "b1" } });
      const all = await collect(state.loadAll());
      expect(all.map((loaded) => loaded.state.commitId).sort()).toEqual(["a2", "b1"]);
    });

    it("removes only the revision that was expected, and never takes an old one for a new one", async () => {
      const state = await open();
      const first = await save(state, document("payments", "c1"), null);
      const second = await save(state, document("payments", "c2"), first);
      expect(await state.remove("payments", first)).toBe("stale");
      expect(await state.remove("payments", second)).toBe("removed");
      expect(await state.remove("payments", second)).toBe("stale");
      expect(await state.load("payments")).toBeNull();
      expect(await collect(state.loadAll())).toEqual([]);
      const again = await save(state, document("payments", "c3"), null);
      for (const old of [first, second]) {
        expect(again).not.toBe(old);
        expect(await state.save("payments", document("payments", "c4"), old)).toEqual({ result: "stale" });
      }
    });

    it("tells of documents that cannot be read, and hands out all the others before", async () => {
      const state = await open();
      for (const name of ["a", "broken", "c", "broken-too", "e"]) await save(state, document(name, name), null);
      await place.damage("broken");
      await place.damage("broken-too");
      const damaged = { name: "UserError", code: "state-damaged", options: { exit: 3 } };
      const message = expect.stringContaining("broken") as string;
      for (const reader of [state, await open()]) {
        await expect(reader.load("broken")).rejects.toMatchObject({ ...damaged, message });
        const found: string[] = [];
        await expect(collect(reader.loadAll(), found)).rejects.toMatchObject({ ...damaged, message });
        expect(found.sort()).toEqual(["a", "c", "e"]);
        expect(await reader.load("c")).toMatchObject({ state: { commitId: "c" } });
      }
    });

    it("says where it does not know whether a change took effect, and the next look does", async () => {
      if (place.openUnheard === null) return;
      const [state, unheard] = [await open(), await open(place.openUnheard)];
      const first = await save(state, document("payments", "c1"), null);
      expect(await unheard.save("payments", document("payments", "c2"), first)).toEqual({ result: "unknown" });
      const { revision = "", state: held } = (await state.load("payments")) ?? {};
      expect(held?.commitId).toBe("c2");
      await expect(unheard.remove("payments", revision)).rejects.toMatchObject({
        name: "ProviderError",
        kind: "unavailable",
        applied: "maybe",
      });
      expect(await state.load("payments")).toBeNull();
    });

    it("tells how old a revision is, never less than nothing", async () => {
      const state = await open();
      const first = await save(state, document("payments", "c1"), null);
      expect((await state.load("payments"))?.age).toBeGreaterThanOrEqual(0);
      if (place.advance === null) return;
      place.advance(5000);
      expect((await state.load("payments"))?.age).toBe(5000);
      await save(state, document("payments", "c2"), first);
      expect((await state.load("payments"))?.age).toBe(0);
      place.advance(-60_000);
      expect((await state.load("payments"))?.age).toBe(0);
    });

    it("holds text of every kind", async () => {
      const state = await open();
      const odd = {
        ...document("payments", "c1"),
        issuerBinding: "'; DROP TABLE documents; -- \u0000 \u2028 \ud83d\udd11 \\ \"",
      };
      await save(state, odd, null);
      expect((await state.load("payments"))?.state).toEqual(odd);
    });

    it("holds a document of 64 KiB", async () => {
      const state = await open();
      const large = { ...document("payments", "c1"), issuerBinding: "x".repeat(64 * 1024) };
      await save(state, large, null);
      expect((await state.load("payments"))?.state).toEqual(large);
    });

    describe("audit log", () => {
      it("takes every entry once, however often it comes", async () => {
        const { audit } = await open();
        await audit.append([entry("a", 1), entry("a", 2)]);
        await audit.append([entry("a", 2), entry("a", 3)]);
        await audit.append([]);
        expect(await audit.read("a", 10)).toEqual([entry("a", 1), entry("a", 2), entry("a", 3)]);
      });

      it("refuses another entry under the same sequence, and takes nothing of that batch", async () => {
        const { audit } = await open();
        await audit.append([entry("a", 1)]);
        const forged = audit.append([entry("a", 2), { ...entry("a", 1), hash: "f".repeat(64) }]);
        await expect(forged).rejects.toMatchObject({ name: "UserError", code: "state-damaged" });
        expect(await audit.read("a", 10)).toEqual([entry("a", 1)]);
      });

      it("reads the newest entries, oldest first", async () => {
        const { audit } = await open();
        await audit.append([entry("a", 1), entry("b", 1), entry("a", 2)]);
        expect(await audit.read("a", 1)).toEqual([entry("a", 2)]);
        expect(await audit.read(null, 2)).toEqual([entry("b", 1), entry("a", 2)]);
        expect(await audit.read("c", 2)).toEqual([]);
      });

      it("outlives the document", async () => {
        const state = await open();
        const revision = await save(state, document("a", "c1"), null);
        await state.audit.append([entry("a", 1)]);
        await state.remove("a", revision);
        expect(await state.audit.read("a", 10)).toEqual([entry("a", 1)]);
        await save(state, document("a", "c2"), null);
        await state.audit.append([entry("a", 2)]);
        expect(await (await open()).audit.read("a", 1)).toEqual([entry("a", 2)]);
      });
    });
  });
}

function document(name: string, commitId: string): SecretState {
  return { ...newState(name, 1_700_000_000_000), commitId };
}

function entry(secret: string, seq: number): AuditEntry {
  const hash = (n: number): string => (n === 0 ? "" : String(n).padStart(64, "0"));
  return {
    secret,
    seq,
    previous: hash(seq - 1),
    hash: hash(seq),
    at: 1_700_000_000_000 + seq,
    actor: "test",
    type: "started",
    data: { seq },
  };
}

async function save(backend: StateBackend, next: SecretState, expected: string | null): Promise<string> {
  const answer = await backend.save(next.name, next, expected);
  if (answer.result !== "saved") throw new Error(`the save ended ${answer.result}`);
  return answer.revision;
}

/** @param names is told the name of each, as it comes */
async function collect(items: AsyncIterable<Loaded>, names: string[] = []): Promise<Loaded[]> {
  const all: Loaded[] = [];
  for await (const item of items) {
    all.push(item);
    names.push(item.state.name);
  }
  return all;
}
