/** Milliseconds. */
export type Duration = number;
/** Milliseconds since 1970, on the clock that the name of the field or parameter says. */
export type Instant = number;

const UNITS: Record<string, Duration> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/**
 * Reads `90d`, `1h30m`, `0s`, `250ms`: whole numbers with the units w d h m s ms, largest first.
 * @returns milliseconds, or null when the text is no duration.
 */
export function parseDuration(text: string): Duration | null {
  const parts = [...text.matchAll(/(\d+)(ms|[wdhms])/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) return null;
  let total = 0;
  let last = Infinity;
  for (const [, count, unit] of parts) {
    const size = UNITS[unit as string] as Duration;
    if (size >= last) return null;
    last = size;
    total += Number(count) * size;
  }
  return Number.isSafeInteger(total) ? total : null;
}

/** `3 min 2 s ago`; what is under a second old is told as that, not in milliseconds that nobody measured. */
export function formatAgo(age: Duration): string {
  return age < 1000 ? "less than 1 s ago" : `${formatDuration(age)} ago`;
}

/** The two largest units that matter: `3d 4h`, `2 min 5 s`, `40 s`, `250 ms`. */
export function formatDuration(duration: Duration): string {
  const ms = Math.max(0, Math.round(duration));
  if (ms < 1000) return ms === 0 ? "0 s" : `${ms} ms`;
  const steps: [string, Duration][] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1000],
  ];
  const first = steps.findIndex(([, size]) => ms >= size);
  const [unit, size] = steps[first] as [string, Duration];
  const head = `${Math.floor(ms / size)} ${unit}`;
  const next = steps[first + 1];
  const rest = next ? Math.floor((ms % size) / next[1]) : 0;
  return next && rest > 0 ? `${head} ${rest} ${next[0]}` : head;
}
