import { advance } from "./advance.ts";
import { plain } from "../ui/text.ts";
import { choose, selectionOf } from "./choose.ts";
import type { SecretMember } from "./members.ts";
import { verb } from "./verb.ts";

/** A fenced run leaves with its next decision; one that hangs loses its lease. */
const PATIENCE = 60_000;

export const rollback = verb({
  parse: (args, options) => selectionOf(args, options),
  run: async (selection, session) => {
    const secrets = await choose(session, selection, "error");
    const report = await advance(session, secrets, {
      start: false,
      sit: "served",
      waitMax: null,
      patience: PATIENCE,
      word: () => ({ word: "rollback" }),
    });
    return { ...report, text: (terminal) => [report.text(terminal), ...report.secrets.flatMap(endText)].join("\n") };
  },
});

/** What consumers get now; of one that was not rolled back the complaint says why. */
function endText({ name, outcome, phase, current }: SecretMember): string[] {
  const isBack = (outcome === "done" || outcome === "waiting") && phase !== "rolling-back";
  return isBack ? [plain(`${name}: rolled back; served now: ${current?.keyId ?? current?.version ?? "nothing"}`)] : [];
}
