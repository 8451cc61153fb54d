/** `?region=eu-west-1&endpoint=http://127.0.0.1:9000`: what there is of it, as people read it; "" for nothing. */
export function queryOf(parts: Readonly<Record<string, string | undefined>>): string {
  const pairs = Object.entries(parts).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value).replaceAll("%3A", ":").replaceAll("%2F", "/")}`],
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}
