import { execFileSync } from "node:child_process";
import { chownSync, cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority } from "../support/authority.ts";
import { Buildah, hasBuildah, npmFolder, type Image } from "../support/buildah.ts";
import { needs } from "../support/require.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
const FILE = "examples/container/Containerfile";
const NOBODY = 65532;
const LEFT_BEHIND = "a-token-of-nobody";

/** The images that a build starts from cannot be had without a registry: these have the same programs in the same places. */
async function bases(buildah: Buildah): Promise<{ readonly run: string }> {
  const [build = "", run = ""] = [...readFileSync(join(ROOT, FILE), "utf8").matchAll(/^FROM (\S+)/gm)].map(
    ([, name]) => name,
  );
  const steps = ["/usr/bin/env", "/bin/sh", "/bin/mkdir", "/bin/cp", "/bin/chmod"].map((path) => [path, path] as const);
  await buildah.base(build, {
    programs: { [process.execPath]: "/usr/local/bin/node", ...Object.fromEntries(steps) },
    folders: { [await npmFolder()]: "/usr/local/lib/node_modules/npm" },
    links: { "usr/local/bin/npm": "../lib/node_modules/npm/bin/npm-cli.js" },
  });
  await buildah.base(run, {
    programs: { [process.execPath]: "/nodejs/bin/node" },
    // Distroless images have these packages as a whole.
    packages: ["libc6", "libgcc-s1", "libstdc++6"],
  });
  return { run };
}

/** The tree as somebody has it who keeps it to himself, with what lies about in such a folder. */
function checkout(folder: string): string {
  const tree = join(folder, "checkout");
  const left = new Set([".git", "node_modules", "dist"].map((name) => join(ROOT, name)));
  cpSync(ROOT, tree, { recursive: true, filter: (path) => !left.has(path) });
  for (const name of [".npmrc", ".env", "src/.env"])
    writeFileSync(join(tree, name), `//example.com/:_authToken=${LEFT_BEHIND}\n`);
  execFileSync("chmod", ["-R", "go=", tree]);
  return tree;
}

describe.runIf(needs("buildah, or no root to run it", hasBuildah))("the container", () => {
  let buildah: Buildah;
  let image: Image;
  let base: Image;
  let container: { readonly id: string; readonly root: string };
  beforeAll(async () => {
    buildah = new Buildah();
    const { run } = await bases(buildah);
    base = await buildah.image(run);
    const tree = checkout(buildah.folder);
    image = await buildah.build(tree, join(tree, FILE), "keyturn");
    container = await buildah.container("keyturn");
  }, 300_000);
  afterAll(() => buildah.remove());

  const keyturn = (args: readonly string[], options?: Parameters<Buildah["run"]>[2]) =>
    buildah.run(container.id, [...image.config.Entrypoint, ...args], options);

  /** Every file of the container; what the kernel, the engine or a mount brings is left out. */
  const files = () =>
    readdirSync(container.root, { recursive: true, withFileTypes: true })
      .map((entry) => relative(container.root, join(entry.parentPath, entry.name)))
      .filter((path) => !/^(?:dev|proc|sys|run|etc|kept)(?:\/|$)/.test(path))
      .toSorted();

  test("adds to its base one layer with the program, and nothing of who built it or how", () => {
    expect(image.layers.length).toBe(base.layers.length + 1);
    const layer = image.layers.at(-1) as string;
    const entries = execFileSync("tar", ["-tf", layer], { encoding: "utf8" }).trim().split("\n");
    const places = entries.flatMap((path) => /^(?:app\/(?:node_modules\/)?)?[^/]+/.exec(path)?.[0] ?? []);
    const packages = ["@libsql", "@neon-rs", "detect-libc", "libsql"].map((name) => `node_modules/${name}`);
    const app = ["LICENSE", "bin", "dist", "node_modules", ...packages, "package.json"].map((name) => `app/${name}`);
    expect([...new Set(places)].toSorted()).toEqual(["app", ...app, "policy"].toSorted());
    const bytes = readFileSync(layer);
    const told = ["_authToken", "registry=", "cafile", LEFT_BEHIND, buildah.folder, ".npmrc"];
    expect(told.filter((text) => bytes.includes(text))).toEqual([]);
    expect(JSON.stringify(image.config)).not.toMatch(/_authToken|registry|npm|proxy/i);
  });

  test("runs as nobody, and brings no program but node's", async () => {
    const script =
      "console.log(JSON.stringify([process.getuid(), process.getgid(), process.getgroups(), process.cwd()]))";
    const { stdout } = await buildah.run(container.id, [image.config.Entrypoint[0] as string, "-e", script]);
    expect(JSON.parse(stdout)).toEqual([NOBODY, NOBODY, [NOBODY], "/policy"]);
    const programs = files().filter((path) => {
      const stat = statSync(join(container.root, path));
      return stat.isFile() && (stat.mode & 0o111) !== 0 && !/\.so|\.node$|ld-linux/.test(path);
    });
    expect(programs).toEqual(["app/bin/keyturn.js", "nodejs/bin/node"]);
    expect((await keyturn(["--version"])).stdout).toBe(`${version}\n`);
  });

  test("rotates by a policy that it may only read, with its state in a folder that is mounted", async () => {
    const authority = await startTestAuthority();
    try {
      await authority.addClient("payments");
      const [policy = "", kept = ""] = ["policy", "kept"].map((name) => join(buildah.folder, name));
      for (const path of [policy, kept]) mkdirSync(path);
      writeFileSync(join(policy, "rotation.config.yaml"), policyOf(authority.url));
      chownSync(kept, NOBODY, NOBODY);
      const mounts = [`${policy}:/policy:ro`, `${kept}:/kept`];
      const before = files();

      const valid = await keyturn(["validate"], { mounts });
      expect([valid.code, valid.stdout]).toEqual([0, expect.stringContaining("ok: 1 secret")]);
      const env = { ADMIN: authority.adminToken };
      const rotated = await keyturn(["rotate", "payments"], { mounts, env });
      expect([rotated.code, rotated.stderr]).toEqual([0, expect.not.stringContaining("rror")]);
      const [, served = ""] = /^API_KEY=(.+)$/m.exec(readFileSync(join(kept, "payments.env"), "utf8")) ?? [];
      expect((await authority.whoami(served)).status).toBe(200);
      expect(statSync(join(kept, "state.db")).uid).toBe(NOBODY);

      // Another container, the same state: what it does unless it is told otherwise.
      const later = await buildah.container("keyturn");
      const command = [...image.config.Entrypoint, ...image.config.Cmd, "--json"];
      const { code, stdout } = await buildah.run(later.id, command, { mounts, env });
      expect([code, JSON.parse(stdout)]).toEqual([0, expect.objectContaining({ command: "run", error: null })]);
      expect(await authority.list("payments")).toHaveLength(1);
      // So a file system that may only be read is enough.
      expect(files()).toEqual(before);
    } finally {
      await authority.close();
    }
  });

  test("ends with keyturn's own exit code", async () => {
    expect((await keyturn(["run"])).code).toBe(2);
  });
});

const policyOf = (url: string) => `version: 1
state: sqlite:/kept/state.db
secrets:
  payments:
    issuer: { type: api-keys, url: "${url}", client: payments, adminToken: "\${env:ADMIN}" }
    stores:
      - { type: local, path: /kept/versions, identity: /kept/identity }
      - { type: dotenv, path: /kept/payments.env, fields: { API_KEY: apiKey } }
    verify: { successes: 1, spread: 0s, deadline: 5s }
    schedule: 90d
`;
