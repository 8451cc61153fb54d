/**
 * The text of AWS's shared credentials file, as the SDKs, the AWS CLI and Terraform read it. They differ in odd
 * places (indented lines, `:` for `=`, capitals, a profile that stands twice, comments behind a value), so what is
 * ours is only read and written where all of them agree; the rest of the file is nobody's business.
 */

/** `[name]`, with room and a comment behind it. */
const HEAD = /^\s*\[\s*([^\]]*?)\s*\]\s*(?:[#;].*)?$/;
const SETTING = /^(\s*)([^\s=:#;[][^=:]*?)\s*([=:])[ \t]*(.*?)[ \t]*$/;
/** Some readers take what follows for a comment, some for a part of the value. */
const COMMENT = /\s[#;].*$/;
const VALUE = /^[\w/+=.~-]+$/;

export const PROFILE = /^[^\s[\]"'#;]+$/;
export const NAME = /^[a-z][a-z0-9_]*$/;
const BYTE_ORDER_MARK = "\xef\xbb\xbf";
/** Belongs to temporary keys: beside one that lasts it makes every call fail. */
const TOKEN = "aws_session_token";

interface Line {
  /** Without its line end. */
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

interface Setting extends Line {
  readonly name: string;
  readonly value: string;
  readonly valueStart: number;
  readonly oddity: string | null;
}

interface Section {
  readonly heads: number;
  readonly settings: readonly Setting[];
  /** Where a new line goes: behind the last one that says something. */
  readonly end: number;
}

/** Name → value in force, within one profile. */
export function parse(text: string, profile: string): Map<string, string> {
  return new Map(sectionOf(text, profile).settings.map(({ name, value }) => [name, value]));
}

/**
 * The text with `values` in the profile: where a name stands it gets the new value, missing ones follow the
 * profile's last line, a missing profile the file's.
 * @returns null when the profile cannot hold a value
 */
export function edit(text: string, profile: string, values: Readonly<Record<string, string>>): string | null {
  if (!PROFILE.test(profile) || Object.values(values).some((value) => !VALUE.test(value))) return null;
  const section = sectionOf(text, profile);
  const newline = /\r?\n/.exec(text)?.[0] ?? "\n";
  const missing = Object.keys(values).filter((name) => !section.settings.some((setting) => setting.name === name));
  const added = missing.map((name) => `${name} = ${values[name]}`);
  if (section.heads === 0) {
    const gap = text === "" ? "" : text.endsWith("\n") ? newline : newline + newline;
    return text + gap + [`[${profile}]`, ...added, ""].join(newline);
  }
  let edited = "";
  let copied = 0;
  for (const { name, value, valueStart } of section.settings) {
    if (!Object.hasOwn(values, name)) continue;
    edited += text.slice(copied, valueStart) + values[name];
    copied = valueStart + value.length;
  }
  const lines = added.map((line) => newline + line).join("");
  return edited + text.slice(copied, section.end) + lines + text.slice(section.end);
}

/** Why the profile cannot be written so that every reader gets the same; null when it can. */
export function unsuitable(text: string, profile: string, names: readonly string[]): string | null {
  if (text.startsWith(BYTE_ORDER_MARK)) return "it begins with a byte order mark";
  const { heads, settings } = sectionOf(text, profile);
  if (heads > 1) return `the profile ${profile} stands there twice`;
  for (const [index, { name, oddity }] of settings.entries()) {
    if (name === TOKEN) return `the profile ${profile} has an ${TOKEN}: it holds temporary keys`;
    if (!names.includes(name)) continue;
    if (oddity !== null) return `${name} of the profile ${profile} ${oddity}, which programs read differently`;
    if (settings.findIndex((other) => other.name === name) !== index)
      return `${name} stands twice in the profile ${profile}`;
  }
  return null;
}

function sectionOf(text: string, profile: string): Section {
  const settings: Setting[] = [];
  let heads = 0;
  let end = text.length;
  let inside = false;
  for (const line of linesOf(text)) {
    const head = HEAD.exec(line.text);
    if (head !== null) {
      inside = head[1] === profile;
      if (inside) heads++;
      if (inside) end = line.end;
    } else if (inside && line.text.trim() !== "") {
      end = line.end;
      const last = settings.at(-1);
      const setting = settingOf(line);
      // Where the line before is a setting, an indented one goes on with its value for some readers.
      if (/^\s/.test(line.text) && last !== undefined && !/^\s*[#;]/.test(line.text))
        settings[settings.length - 1] = { ...last, oddity: "is followed by an indented line" };
      if (setting !== null) settings.push(setting);
    }
  }
  return { heads, settings, end };
}

function settingOf(line: Line): Setting | null {
  const [, indent = "", written = "", sign, rest = ""] = SETTING.exec(line.text) ?? [];
  if (written === "") return null;
  const name = written.trim().toLowerCase();
  const value = rest.replace(COMMENT, "").trimEnd();
  const valueStart = line.start + line.text.indexOf(sign ?? "=", indent.length + written.length) + 1;
  const room = line.text.slice(valueStart - line.start).search(/\S|$/);
  const oddity =
    indent !== ""
      ? "is indented"
      : sign === ":"
        ? "is written with a colon"
        : written !== name
          ? "is written with capitals"
          : rest !== value
            ? "has a comment behind its value"
            : null;
  return { ...line, name, value, valueStart: valueStart + room, oddity };
}

function* linesOf(text: string): Generator<Line> {
  for (const { 0: whole, index } of text.matchAll(/[^\n]*(?:\n|$)/g)) {
    if (whole === "") continue;
    const line = whole.replace(/\r?\n$/, "");
    yield { text: line, start: index, end: index + line.length };
  }
}
