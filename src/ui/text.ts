/** Without control characters: names and messages come from outside and must not steer the terminal. */
export function plain(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, " ");
}

/** Columns that a text gets whatever stands before it. */
const LEAST = 20;

/** Lines of at most `width` characters, broken at spaces where there are any. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    let rest = word;
    const joined = line === "" ? rest : `${line} ${rest}`;
    if (joined.length <= width) {
      line = joined;
      continue;
    }
    if (line !== "") lines.push(line);
    for (; rest.length > width; rest = rest.slice(width)) lines.push(rest.slice(0, width));
    line = rest;
  }
  if (line !== "" || lines.length === 0) lines.push(line);
  return lines;
}

/** `head` and, behind it, the text; what does not fit on its line goes on below, `indent` columns in. */
export function hanging(head: string, text: string, width: number, indent: number = head.length): string {
  const lines = wrap(text, Math.max(LEAST, width - Math.max(head.length, indent)));
  return head + lines.join(`\n${" ".repeat(indent)}`);
}

/** `1 secret`, `2 secrets`. */
export function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? "" : "s"}`;
}
