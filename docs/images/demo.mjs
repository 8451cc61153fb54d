// Runs the demo on a terminal of its own and draws one of its screens: node docs/images/demo.mjs
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { spawn } from "@lydell/node-pty";

const COLUMNS = 80;
const CELL = { width: 8.4, height: 18 };
const MARGIN = 20;
const ESCAPE = "\u001b";
/** Right before the reminder: one client still uses the old key, and keyturn says so. */
const MOMENT = /keyturn waits: old key .*: reports/;

const root = fileURLToPath(new URL("../..", import.meta.url));
const output = await record();
const screens = output.split(`${ESCAPE}[J`).slice(1);
const screen = screens.findLast((text) => MOMENT.test(text) && text.includes("once an hour"));
if (screen === undefined) throw new Error("the demo never came to the moment of the picture");
writeFileSync(new URL("demo.svg", import.meta.url), picture(screen.slice(0, screen.lastIndexOf(ESCAPE)).trimEnd()));

function record() {
  return new Promise((resolve) => {
    const env = { ...process.env, TERM: "xterm-256color", FORCE_COLOR: "1", NO_COLOR: "" };
    const terminal = spawn(process.execPath, [`${root}bin/keyturn.js`, "demo"], { cols: COLUMNS, rows: 24, env });
    let text = "";
    terminal.onData((data) => (text += data));
    terminal.onExit(() => resolve(text));
  });
}

/** Text stays text: it can be selected and read aloud, and takes the colours of the reader's theme. */
function picture(text) {
  const rows = text.split(/\r?\n/);
  const width = Math.ceil(COLUMNS * CELL.width + 2 * MARGIN);
  const height = rows.length * CELL.height + 2 * MARGIN;
  const lines = rows.map((row, at) => {
    const y = MARGIN + (at + 0.75) * CELL.height;
    return row.trim() === "" ? "" : `  <text x="${MARGIN}" y="${y}">${spans(row)}</text>\n`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title">
  <title id="title">keyturn demo: five clients use the new key, the sixth still the old one, and no request failed</title>
  <style>
    rect { fill: #f6f8fa; stroke: #d1d9e0 }
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre }
    .bold { font-weight: 700 }
    .dim { fill: #59636e }
    .good { fill: #116329 }
    .warn { fill: #7d4e00 }
    .bad { fill: #a40e26 }
    @media (prefers-color-scheme: dark) {
      rect { fill: #0d1117; stroke: #3d444d }
      text { fill: #f0f6fc }
      .dim { fill: #9198a1 }
      .good { fill: #3fb950 }
      .warn { fill: #d29922 }
      .bad { fill: #f85149 }
    }
  </style>
  <rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>
${lines.join("")}</svg>
`;
}

/** Each run of one style at the column where the terminal had it, whatever the reader's font. */
function spans(row) {
  const classes = { 1: "bold", 2: "dim", 31: "bad", 32: "good", 33: "warn" };
  let style = "";
  let column = 0;
  let drawn = "";
  for (const [index, part] of row.split(ESCAPE).entries()) {
    const code = index === 0 ? null : /^\[([\d;?]*)([A-Za-z])/.exec(part);
    if (code?.[2] === "m") style = classes[code[1]] ?? "";
    const words = part.slice(code?.[0].length ?? 0);
    for (const { 0: word, index: at } of words.matchAll(/\S+(?: \S+)*/g)) {
      const x = (MARGIN + (column + at) * CELL.width).toFixed(1);
      const length = (word.length * CELL.width).toFixed(1);
      const name = style === "" ? "" : ` class="${style}"`;
      drawn += `<tspan x="${x}" textLength="${length}"${name}>${escape(word)}</tspan> `;
    }
    column += words.length;
  }
  return drawn.trimEnd();
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
