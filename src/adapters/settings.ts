import * as z from "zod";
import { parseDuration, type Duration } from "../core/duration.ts";

/** A duration as people write it, kept as text: `.default("1h")` then shows in the schema. {@link ms} reads it. */
export function duration(least: Duration = 0): z.ZodString {
  return z
    .string()
    .refine((text) => (parseDuration(text) ?? -1) >= least, {
      error: least > 0 ? "is no duration above zero: write 1h" : "is no duration: write 10s",
    })
    .meta({ duration: true });
}

/** Milliseconds of a text that {@link duration} has let through. */
export function ms(text: string): Duration {
  return parseDuration(text) ?? 0;
}
