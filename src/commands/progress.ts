import type { Instant } from "../core/duration.ts";
import type { EffectKind } from "../core/model.ts";
import type { Progress } from "../engine/result.ts";
import type { Terminal } from "../ui/terminal.ts";
import { relative } from "../ui/time.ts";

/**
 * Shows what is being done and what is awaited: on a terminal a live line for each secret under way, elsewhere a line
 * with its time whenever it becomes another thing.
 */
export class ProgressLines {
  /** Secret → what was shown of it last. */
  readonly #shown = new Map<string, string>();
  readonly #ended = new Set<string>();

  constructor(
    private readonly terminal: Terminal,
    private readonly now: () => Instant,
    private readonly names: readonly string[],
  ) {}

  tell(progress: Progress): void {
    const { name, phase, reason } = progress;
    const line = this.#line(progress);
    if (line === null) return;
    const isLive = this.terminal.isLive;
    // A wait whose numbers alone have changed is no news where lines stay.
    const what = isLive || progress.event !== undefined ? line : `${phase} ${reason}`;
    const isNews = this.#shown.get(name) !== what;
    this.#shown.set(name, what);
    if (isLive) this.#draw();
    else if (isNews) this.terminal.progress(line);
  }

  /** The secret is worked on no more. */
  end(name: string): void {
    this.#ended.add(name);
    if (this.terminal.isLive) this.#draw();
  }

  #draw(): void {
    const underWay = this.names.filter((name) => this.#shown.has(name) && !this.#ended.has(name));
    const lines = underWay.map((name) => this.#shown.get(name) as string);
    const total = this.names.length;
    const head = `${this.#ended.size} of ${total} secrets through, ${underWay.length} under way`;
    this.terminal.live(total > 1 && lines.length > 0 ? [head, ...lines] : lines);
  }

  #line({ name, phase, message, until, event }: Progress): string | null {
    if (event === undefined) {
      const next = until === null || until < this.now() + 1000 ? "" : ` (${relative(until, this.now())})`;
      return `${name} ${phase}: ${message}${next}`;
    }
    // An effect is told of when it begins; its success shows in what comes next.
    const { effect, version, keyId } = event.data;
    if (event.type === "intent") return `${name} ${phase}: ${String(effect)} ${String(version)}`;
    if (EFFECTS.has(event.type)) return null;
    const which = typeof keyId === "string" ? `: ${keyId}` : "";
    return `${name} ${phase}: ${NEWS[event.type] ?? event.type}${which}`;
  }
}

const EFFECTS: ReadonlySet<string> = new Set<EffectKind>([
  "issue",
  "stage",
  "promote",
  "put",
  "enable",
  "disable",
  "delete",
  "discard",
]);

/** Events as people read them while they happen; the audit log has the short names. */
const NEWS: Readonly<Record<string, string>> = {
  started: "the rotation begins",
  expiring: "its key ends by itself before the schedule would have replaced it",
  "overlap-started": "every store serves the new key",
  "key-found": "the key of a request without an answer is found",
  abandoned: "given up",
  destroyed: "a key is dead",
  straggler: "somebody is still on the old key",
  "overlap-maximum": "the overlap has reached its maximum",
  "rolling-back": "going back to the key from before",
  "rolled-back": "went back to the key from before",
  "hook-done": "a hook is done",
  refused: "a provider refused",
  failed: "a step failed",
};
