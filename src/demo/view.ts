import type { Duration, Instant } from "../core/duration.ts";
import type { Terminal } from "../ui/terminal.ts";
import { plain, wrap } from "../ui/text.ts";
import { frame, type Picture } from "./frame.ts";
import { Screen } from "./screen.ts";
import { tail } from "./words.ts";

/** How the show reaches people. */
export interface View {
  /** Something happened. */
  note(line: string): void;
  close(): void;
}

const FRAME_EVERY: Duration = 250;
const SUMMARY_EVERY: Duration = 5_000;
const NARROWEST = 70;
/** Of lines that stay; `2026-01-02T03:04:05Z ` stands before each. */
const WIDEST = 80;
const STAMP = 21;

/** A live screen on a terminal that has room for it, else lines with their time; nothing with `--quiet`. */
export function viewOf(terminal: Terminal, quiet: boolean, now: () => Instant, picture: () => Picture): View {
  if (quiet) return { note: () => {}, close: () => {} };
  const { stderr } = terminal;
  const columns = stderr.columns ?? 80;
  return terminal.isLive && columns >= NARROWEST ? live(terminal, columns, now, picture) : lines(terminal, picture);
}

function live(terminal: Terminal, columns: number, now: () => Instant, picture: () => Picture): View {
  const screen = new Screen(terminal.stderr);
  const draw = () => screen.draw(frame(picture(), now(), columns, terminal.errorStyle));
  draw();
  const timer = setInterval(draw, FRAME_EVERY);
  return {
    note: () => {},
    close: () => {
      clearInterval(timer);
      draw();
      screen.close();
    },
  };
}

function lines(terminal: Terminal, picture: () => Picture): View {
  const note = (text: string) => {
    const [first = "", ...rest] = wrap(plain(text), WIDEST - STAMP);
    terminal.progress(first);
    for (const line of rest) terminal.say(" ".repeat(STAMP) + line);
  };
  const timer = setInterval(() => note(summary(picture())), SUMMARY_EVERY);
  return { note, close: () => clearInterval(timer) };
}

/** `362 requests/s, 0 failed; …ab12: checkout, search; …cd34: reports; keyturn waits: …` */
function summary({ perSecond, failed, clients, doing }: Picture): string {
  const users = new Map<string, string[]>();
  for (const { name, report } of clients) {
    if (report.keyId === null) continue;
    const key = tail(report.keyId);
    users.set(key, [...(users.get(key) ?? []), name]);
  }
  const keys = [...users].map(([key, names]) => `; ${key}: ${names.join(", ")}`).join("");
  return `${perSecond.toFixed(0)} requests/s, ${failed} failed${keys}; ${doing}`;
}
