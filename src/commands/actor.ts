import { hostname, userInfo } from "node:os";

type Env = Readonly<Record<string, string | undefined>>;

/** CI systems by a variable that only they set, and the variables that say which job it is. */
const SYSTEMS: readonly (readonly [name: string, sign: string, job: readonly string[]])[] = [
  ["github", "GITHUB_ACTIONS", ["GITHUB_REPOSITORY", "GITHUB_RUN_ID"]],
  ["gitlab", "GITLAB_CI", ["CI_PROJECT_PATH", "CI_JOB_ID"]],
  ["jenkins", "JENKINS_URL", ["BUILD_TAG"]],
  ["buildkite", "BUILDKITE", ["BUILDKITE_PIPELINE_SLUG", "BUILDKITE_BUILD_NUMBER"]],
  ["circleci", "CIRCLECI", ["CIRCLE_PROJECT_REPONAME", "CIRCLE_BUILD_NUM"]],
  ["azure", "TF_BUILD", ["BUILD_DEFINITIONNAME", "BUILD_BUILDNUMBER"]],
];

/** Who acts, for people who read the state later: `ci:github/owner/repo/123`, else `user@host`. */
export function actorOf(env: Env): string {
  const system = SYSTEMS.find(([, sign]) => (env[sign] ?? "") !== "");
  if (system !== undefined) return `ci:${[system[0], ...system[2].flatMap((name) => env[name] ?? [])].join("/")}`;
  if (env["CI"] === "true") return `ci:${hostname()}`;
  return `${userName(env)}@${hostname()}`;
}

function userName(env: Env): string {
  try {
    return userInfo().username;
  } catch {
    // A uid without a name, as in many containers.
    return env["USER"] ?? "unknown";
  }
}
