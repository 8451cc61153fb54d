import { fileURLToPath } from "node:url";
import { formatDuration } from "../core/duration.ts";
import { CLIENTS, Show, STRAGGLER, TIMES, type Ending } from "../demo/show.ts";
import { onStage } from "../demo/stage.ts";
import { viewOf, type View } from "../demo/view.ts";
import { tail } from "../demo/words.ts";
import type { Terminal } from "../ui/terminal.ts";
import { verb, type Report } from "./verb.ts";

/** Where the build puts them, seen from the chunk that this file becomes part of. */
const FILES = {
  cli: fileURLToPath(new URL("../cli.js", import.meta.url)),
  client: fileURLToPath(new URL("../demo-client.js", import.meta.url)),
};

export const demo = verb({
  parse: () => null,
  run: async (_, session) => {
    const { terminal, globals, signal } = session;
    const { env, now } = session.process;
    const debug = (line: string) => terminal.debug(line);
    const show = new Show((line) => view.note(line));
    const view: View = viewOf(terminal, globals.quiet, now, () => show.picture());
    try {
      const ending = await onStage(
        {
          files: FILES,
          clients: CLIENTS,
          times: TIMES,
          actor: "demo",
          env,
          now,
          // What keyturn would say of a folder that stays is of no use for this one.
          debug,
          say: debug,
          announce: debug,
          signal,
          onReport: () => show.heard(),
          onReminder: (who) => show.remind(who),
        },
        (stage) => show.play(stage),
      );
      return reportOf(ending);
    } finally {
      view.close();
    }
  },
});

function reportOf(ending: Ending): Report {
  const { requests, failed, oldKey, waited, seconds } = ending;
  const isRejected = oldKey.status === 401;
  const wrong = [
    ...(failed === 0 ? [] : [`${failed} of ${requests} requests failed`]),
    ...(isRejected ? [] : [`the old key is still answered with ${oldKey.status}`]),
    ...(waited === null ? [`the old key went without a wait for ${STRAGGLER}`] : []),
  ];
  return {
    outcome: wrong.length === 0 ? "done" : "failed",
    secrets: [],
    member: {
      demo: {
        requests,
        failed,
        oldKey: isRejected ? "rejected" : "accepted",
        waitedForStraggler: waited !== null,
        seconds: Math.round(seconds * 10) / 10,
      },
    },
    text: (terminal) => text(ending, terminal),
    complaints: wrong.map((line) => ({ line, hints: [] })),
  };
}

function text({ requests, failed, perSecond, oldKey, waited, reminded, seconds }: Ending, { style }: Terminal): string {
  const times = reminded === 1 ? "once" : `${reminded} times`;
  return [
    "",
    `${style.bold("requests")}   ${requests} by ${CLIENTS.length} processes, ${perSecond.toFixed(0)} a second`,
    `${style.bold("failed")}     ${failed === 0 ? style.good("0") : style.bad(String(failed))}`,
    `${style.bold("old key")}    ${tail(oldKey.keyId)} tried once more: ${oldKey.status} ${oldKey.error ?? ""}`.trimEnd(),
    `${style.bold("waited")}     ${waited === null ? "for nobody" : `${formatDuration(waited)} for ${STRAGGLER}, reminded ${times}`}`,
    `${style.bold("took")}       ${seconds.toFixed(0)} s; its processes and its folder are gone`,
    "",
    "With secrets of your own:",
    "  keyturn init             looks at what is here, asks, writes the policy",
    "  keyturn validate         is the policy sound?",
    "  keyturn plan             what would happen, and when?",
    "  keyturn adopt SECRET     take over a key that is already in use",
    "",
  ].join("\n");
}
