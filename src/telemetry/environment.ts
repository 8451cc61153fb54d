type Env = Readonly<Record<string, string | undefined>>;

/** Whether the environment asks for traces, by OpenTelemetry's own variables: an address, or `otlp` by name. */
export function isTraced(env: Env): boolean {
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return false;
  const exporters = env["OTEL_TRACES_EXPORTER"]?.split(",").map((name) => name.trim()) ?? [];
  if (exporters.length > 0 && exporters[0] !== "") return exporters.includes("otlp");
  return Boolean(env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] || env["OTEL_EXPORTER_OTLP_ENDPOINT"]);
}
