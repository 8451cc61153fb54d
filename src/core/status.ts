import type { Version, VersionStatus } from "./model.ts";

/** Every move a version may make, and when. `docs/how-it-decides.md` draws its picture from this table. */
export const MOVES: readonly { readonly from: VersionStatus; readonly to: VersionStatus; readonly when: string }[] = [
  { from: "minting", to: "pending", when: "the issuer's answer, or a listing, gave the key id" },
  { from: "minting", to: "abandoned", when: "the issuer refused, or no key appeared" },
  { from: "pending", to: "current", when: "the authority serves it" },
  {
    from: "pending",
    to: "abandoned",
    when: "its value is lost, or it is unwanted before any store was asked to serve it",
  },
  { from: "pending", to: "retiring", when: "unwanted after a store was asked to serve it" },
  { from: "current", to: "retiring", when: "the authority serves another" },
  { from: "retiring", to: "current", when: "rollback: the authority serves it again" },
  { from: "retiring", to: "disabled", when: "every check of promise 4 held" },
  { from: "retiring", to: "destroyed", when: "the issuer cannot disable; proven dead" },
  { from: "disabled", to: "retiring", when: "rollback, or a refused use during the soak: enabled again" },
  { from: "disabled", to: "destroyed", when: "soak over; proven dead" },
  { from: "abandoned", to: "destroyed", when: "proven dead" },
  { from: "destroyed", to: "abandoned", when: "a key id arrived late: debt" },
];

/** The moves that bring a version back to life: never for a leaked one. */
const REVIVALS = new Set(["pending>current", "retiring>current", "disabled>retiring"]);

export class IllegalTransition extends Error {
  override readonly name = "IllegalTransition";
  constructor(version: Version, to: VersionStatus) {
    super(
      `version ${version.id} cannot go from ${version.status} to ${to}${version.compromised ? " (compromised)" : ""}`,
    );
  }
}

export function mayMove(version: Version, to: VersionStatus, guardLeaked = true): boolean {
  if (guardLeaked && version.compromised && REVIVALS.has(`${version.status}>${to}`)) return false;
  return MOVES.some((move) => move.from === version.status && move.to === to);
}

/** @throws IllegalTransition for a move that the table does not list, or that would revive a leaked version. */
export function move(version: Version, to: VersionStatus, guardLeaked = true): Version {
  if (version.status === to) return version;
  if (!mayMove(version, to, guardLeaked)) throw new IllegalTransition(version, to);
  return { ...version, status: to };
}
