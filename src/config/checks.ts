import type { Instant } from "../core/duration.ts";
import { valueIssue, type Issue } from "./issues.ts";
import { nearest, suggestion } from "./nearest.ts";
import { formatPath, own, valueAt, type Path } from "./path.ts";
import type { Gathered } from "./parts.ts";
import type { Schedule } from "./model.ts";
import { cronTimes, longestGap, meetsWindow } from "./schedule.ts";
import type { SecretDraft } from "./secrets.ts";

/** What only shows when the parts of a policy are held against each other. */
export async function crossCheck(
  raw: Record<string, unknown>,
  secrets: readonly SecretDraft[],
  notifiers: Iterable<string>,
  now: Instant,
  gathered: Gathered,
): Promise<void> {
  const names = [...notifiers];
  const found: Issue[] = [];
  const crons = new Map<string, Promise<string | null>>();
  const odd = new Map<string, Promise<readonly string[]>>();
  for (const { policy } of secrets) {
    /** Where a rule was written: by the secret, or for all. */
    const rule = (group: string, key: string): Path => {
      const mine = ["secrets", policy.name, group];
      const written = [mine, ["defaults", group]].find((path) => {
        const value = valueAt(raw, path);
        return value !== undefined && (typeof value !== "object" || own(value, key) !== undefined);
      });
      return written ? [...written, key] : ["secrets", policy.name];
    };
    const { overlap, verify, schedule } = policy;
    if (overlap.minimum > overlap.maximum)
      found.push(valueIssue(rule("overlap", "minimum"), "is longer than overlap.maximum"));
    if (verify.spread > verify.deadline)
      found.push(valueIssue(rule("verify", "spread"), "is longer than verify.deadline"));
    if (schedule?.cron != null) {
      const { cron, zone } = schedule;
      const key = `${zone} ${cron}`;
      if (!crons.has(key)) crons.set(key, cronProblem(cron, zone));
      const problem = await crons.get(key);
      if (problem) found.push(valueIssue(rule("schedule", "cron"), problem));
      else {
        const all = JSON.stringify([cron, zone, schedule.window?.text, schedule.spread]);
        if (!odd.has(all)) odd.set(all, oddities({ ...schedule, cron }, now));
        for (const text of (await odd.get(all)) ?? [])
          gathered.warnings.push(valueIssue(["secrets", policy.name, "schedule"], text));
      }
    }
    if (schedule?.every != null && schedule.spread >= schedule.every) {
      const text = "the spread that it inherits is not shorter than every";
      found.push(valueIssue(["secrets", policy.name, "schedule"], text, "give it a `spread` of its own"));
    }
    found.push(...consumerIssues(policy, names));
  }
  found.push(...clashes(secrets));
  sharedOwners(secrets, gathered);
  const told = new Set<string>();
  for (const issue of found) {
    const key = `${formatPath(issue.path)} ${issue.message}`;
    if (!told.has(key)) gathered.issues.push(issue);
    told.add(key);
  }
}

/**
 * One credential owner in two secrets: each takes the other's keys for a stranger's, and they share its slots. An
 * error where two rotations cannot fit.
 */
function sharedOwners(secrets: readonly SecretDraft[], gathered: Gathered): void {
  const owners = new Map<string, string[]>();
  for (const { policy, issuer } of secrets) {
    const { type, settings } = policy.issuer;
    const told = Object.entries(settings).filter(([key]) => issuer.owner?.by.includes(key) ?? true);
    const owner = JSON.stringify([type, told.sort(([a], [b]) => a.localeCompare(b))]);
    const others = owners.get(owner) ?? [];
    owners.set(owner, [...others, policy.name]);
    const [other] = others;
    if (other === undefined) continue;
    const fits = (issuer.owner?.slots ?? Infinity) >= 2 * (others.length + 1);
    const why = fits ? "each takes the keys of the other for a stranger's" : "its slots hold one rotation at a time";
    const at = ["secrets", policy.name, "issuer"];
    const hint = fits ? undefined : `keep one of them, with the stores of both`;
    const issue = valueIssue(at, `is the same owner as that of ${other}: ${why}`, hint);
    (fits ? gathered.warnings : gathered.issues).push(issue);
  }
}

const TWO_YEARS = 2 * 366 * 86_400_000;

/** Where what a secret says and what it inherits do not go together. */
async function oddities(schedule: Schedule & { readonly cron: string }, now: Instant): Promise<string[]> {
  const odd: string[] = [];
  if (!(await meetsWindow(schedule, now, now + TWO_YEARS)))
    odd.push(`no time of the cron expression lies in its window, ${schedule.window?.text}: each waits until it opens`);
  if (schedule.spread > 0 && schedule.spread >= (await longestGap(schedule, now)))
    odd.push("its spread is as long as the time from one moment of the cron expression to the next, or longer");
  return odd;
}

async function cronProblem(cron: string, zone: string): Promise<string | null> {
  try {
    return (await cronTimes(cron, zone))(Date.UTC(2024, 0, 1)) === null ? "names no moment that ever comes" : null;
  } catch {
    return "is no cron expression such as 0 3 1 * *";
  }
}

function consumerIssues({ name, consumers }: SecretDraft["policy"], notifiers: readonly string[]): Issue[] {
  const seen = new Set<string>();
  return consumers.flatMap((consumer, index) => {
    const at = ["secrets", name, "consumers", index];
    const issues: Issue[] = [];
    if (seen.has(consumer.name)) issues.push(valueIssue([...at, "name"], "this consumer is named twice"));
    seen.add(consumer.name);
    const { notify } = consumer;
    if (notify !== null && !notifiers.includes(notify)) {
      const shown = nearest(notify, notifiers) === null ? "" : ` "${notify}"`;
      issues.push(valueIssue([...at, "notify"], `unknown notifier${shown}${suggestion(notify, notifiers)}`));
    }
    return issues;
  });
}

/** Two deliveries that write the same field of the same object would undo each other for ever. */
function clashes(secrets: readonly SecretDraft[]): Issue[] {
  const writers = new Map<string, Path>();
  const issues: Issue[] = [];
  for (const { deliveries } of secrets) {
    for (const { object, writes, policy: delivery } of deliveries) {
      let other: Path | undefined;
      for (const field of writes) {
        other ??= writers.get(`${object} ${field}`);
        writers.set(`${object} ${field}`, delivery.deliveryAt);
      }
      if (other)
        issues.push(
          valueIssue(
            delivery.deliveryAt,
            `writes the same field of the same object as ${formatPath(other)}`,
            "give one of them other `fields`, or another name",
          ),
        );
    }
  }
  return issues;
}
