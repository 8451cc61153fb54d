import type { Stream } from "../ui/terminal.ts";

/**
 * The same stream, with no text from outside that a runner would take for a command. Azure's agent, and GitHub's
 * runner in its old form, find commands anywhere in a line; and a caller names itself as it likes. What begins a
 * write is ours.
 */
export function guarded<S extends Stream>(stream: S): S {
  const write = (text: string, ...rest: never[]) => stream.write(text.replaceAll(/(?!^)##(\w*)\[/g, "## $1["), ...rest);
  return Object.assign(Object.create(stream), { write }) as S;
}
