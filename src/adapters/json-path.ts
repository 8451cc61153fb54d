/**
 * What stands at a place in a JSON document: members by dots (`request.headers.x-client`, `items.0.id`), or a JSON
 * Pointer (RFC 6901) when it begins with a slash (`/request/headers/x.client`). `undefined` where nothing stands.
 */
export function atPath(document: unknown, path: string): unknown {
  let here = document;
  for (const step of stepsOf(path)) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string, unknown>)[step];
  }
  return here;
}

function stepsOf(path: string): readonly string[] {
  if (!path.startsWith("/")) return path.split(".");
  return path
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** A text or a number as text; null for anything else, the empty text included. */
export function textAt(document: unknown, path: string): string | null {
  const found = atPath(document, path);
  if (typeof found === "number" || typeof found === "boolean") return String(found);
  return typeof found === "string" && found !== "" ? found : null;
}
