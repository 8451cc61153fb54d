import { expect, test } from "vitest";
import type { CallerMemory, Intent, MayLand, Mint, SecretState, Version } from "../../src/core/model.ts";
import type { KeyUsage } from "../../src/core/observed.ts";
import type { RulesPatch, Scene } from "./support.ts";
import {
  AUTHORITY,
  EMERGENCY,
  H,
  MIRROR,
  NOW,
  S,
  T,
  UNREADABLE,
  after,
  decided,
  delivery,
  idle,
  rotation,
  said,
  verdict,
  version,
} from "./support.ts";

export function open(
  effect: MayLand["effect"],
  of: string,
  to: string | null = null,
  more: Partial<MayLand> = {},
): MayLand {
  return { id: "i-0", effect, version: of, delivery: to, until: T + 20 * S, ...more };
}

export function mint(more: Partial<Mint> = {}): Mint {
  return { listedAt: T - H, listed: ["key-v1"], within: 60 * S, absences: 0, again: false, ...more };
}

/** v2 was asked for, and no answer came. */
export function minting(more: Partial<Version> = {}, rest: Partial<SecretState> = {}): SecretState {
  const v2 = version("v2", "minting", { keyId: null, createdAt: null, staged: false, mint: mint(), ...more });
  return idle({ versions: [version("v1", "current"), v2], rotation: rotation("v1", "v2"), ...rest });
}

export const BOTH = { keys: ["v1", "v2"] } as const;
/** Everything promise 4 asks for has been seen, on this very revision. */
export const PROVEN = { ...BOTH, serves: { vault: "v2", env: "v2" }, accepts: { v2: "accepted" } } as const;
export const LONG = 50 * H;
export const MIRRORED: RulesPatch = { deliveries: [AUTHORITY, MIRROR] };
export const BLIND_MIRROR: RulesPatch = { deliveries: [AUTHORITY, UNREADABLE] };
export const onBoth = (id: string) => [delivery(AUTHORITY, id), delivery(MIRROR, id)];

export function silent(from: number, ...events: KeyUsage["events"]): KeyUsage {
  return { status: "covered", from, until: T, events };
}

export function caller(more: Partial<CallerMemory> = {}): CallerMemory {
  return { last: T - 5 * H, gap: 0, count: 9, deniedAt: null, own: false, ...more };
}

export function denied(who: string): KeyUsage["events"][number] {
  return { who, first: T - S, last: T - S, count: 1, outcome: "denied" };
}

export function leaked(id: string, status: Version["status"], more: Partial<Version> = {}): Version {
  return version(id, status, { compromised: true, ...more });
}

export function emergency(before: SecretState, more: Partial<typeof EMERGENCY> = {}): SecretState {
  return said(before, { ...EMERGENCY, ...more });
}

/** Intended, sent, answered. */
export function carriedOut(
  before: SecretState,
  one: Intent,
  closing: { readonly ref?: string; readonly confirmed?: boolean } = {},
): SecretState {
  return after(before, [
    { fact: "intended", intent: one, mint: null },
    { fact: "closed", intent: one, closing: { how: "done", ...closing } },
  ]);
}

/** What is decided, each step being carried out in the document, until something outside is needed. */
export function settledOn(scene: Scene): { readonly verdict: string; readonly state: SecretState } {
  let { state: now } = scene;
  for (let i = 0; i < 20; i++) {
    const decision = decided({ ...scene, state: now });
    if (decision.decision !== "note") break;
    now = after(now, decision.facts, scene.now ?? NOW);
  }
  return { verdict: verdict({ ...scene, state: now }), state: now };
}

export type Row = readonly [name: string, scene: Scene, expected: string];
export const check = (rows: readonly Row[]) =>
  test.each(rows)("%s", (_name, scene, expected) => {
    expect(verdict(scene)).toBe(expected);
  });
