import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine } from "../support/command-line.ts";
import type { Lane } from "../support/lane.ts";
import { laneOn, SHARED, startShared, stopShared } from "../support/shared-state.ts";

const shared = SHARED.find(({ there }) => there);
const WARNING = /^warning: one \(local .+, dotenv .+\): on this machine's disk, while the state is shared.*\nhint: /m;

describe.runIf(shared !== undefined)("files of one machine beside a state for several", () => {
  let authority: TestAuthority;
  let commands: CommandLine;
  let lane: Lane;

  beforeAll(async () => {
    authority = await startTestAuthority();
    commands = new CommandLine();
    await startShared();
    lane = await laneOn(shared as (typeof SHARED)[number], authority, commands);
  }, 120_000);
  afterAll(async () => {
    await lane?.close();
    await authority?.close();
    commands?.remove();
    await stopShared();
  });

  test("doctor says so of each, and blocks on none", async () => {
    const { code, document } = await lane.json("doctor", "one");
    const said = document.doctor.filter(({ message }: { message: string }) => message.includes("state is shared"));
    expect([code, said.length]).toEqual([0, 2]);
    for (const one of said)
      expect(one).toMatchObject({ part: expect.stringMatching(/^store (local|dotenv): /), verdict: "warning" });
  });

  test.each([{ CI: "true" }, { GITLAB_CI: "true" }, { TF_BUILD: "True" }])(
    "a run and a rotate say so once on a runner: %o",
    async (env) => {
      expect((await lane.run("run", "one")).stderr).not.toContain("state is shared");
      Object.assign(lane.place.env, env);
      try {
        for (const command of ["run", "rotate"]) {
          const { stderr } = await lane.run(command, "one");
          expect(stderr).toMatch(WARNING);
          expect(stderr.split("state is shared")).toHaveLength(2);
        }
        const local = await lane.run("--state", "sqlite:of-this-machine.db", "run", "one");
        expect(local.stderr).not.toContain("state is shared");
      } finally {
        for (const name of Object.keys(env)) delete lane.place.env[name];
      }
    },
  );
});
