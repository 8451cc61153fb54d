import { execFile, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { rootCertificates } from "node:tls";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Images can be built and run here: needs no daemon, no registry of images and no kernel that is asked for much. */
export const hasBuildah = process.getuid?.() === 0 && spawnSync("env", ["buildah", "--version"]).status === 0;

/** An image as it would be pushed. */
export interface Image {
  readonly config: { readonly Entrypoint: readonly string[]; readonly Cmd: readonly string[] };
  /** Files of tar format, the lowest first. */
  readonly layers: readonly string[];
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What an image is made of, each from here → there (a link: there → what it names). Programs bring their libraries. */
export interface Parts {
  readonly programs: Readonly<Record<string, string>>;
  /** Debian's, of which all libraries are wanted. */
  readonly packages?: readonly string[];
  readonly folders?: Readonly<Record<string, string>>;
  readonly links?: Readonly<Record<string, string>>;
}

const stdoutOf = (program: string, args: readonly string[]): readonly string[] =>
  (spawnSync(program, args, { encoding: "utf8" }).stdout ?? "").split("\n");

/** buildah with images and containers of its own, in a folder that `remove` takes away. */
export class Buildah {
  readonly folder = mkdtempSync(join(tmpdir(), "keyturn-buildah-"));
  readonly #storage = ["root", "runroot"].flatMap((name) => [`--${name}`, join(this.folder, name)]);

  #all(args: readonly string[]): string[] {
    return [...this.#storage, "--storage-driver", "vfs", ...args];
  }

  /** @throws where it fails, with what it said */
  async #ask(...args: string[]): Promise<string> {
    const options = { env: { ...process.env, TMPDIR: this.folder }, maxBuffer: 64 << 20 };
    return (await run("buildah", this.#all(args), options)).stdout.trim();
  }

  /** An image out of this machine's own parts, which stands for one that would be pulled. */
  async base(name: string, { programs, packages = [], folders = {}, links = {} }: Parts): Promise<void> {
    const tree = mkdtempSync(join(this.folder, "base-"));
    const copy = (from: string, to: string) => {
      mkdirSync(dirname(join(tree, to)), { recursive: true });
      cpSync(from, join(tree, to), { recursive: true, dereference: true });
    };
    for (const line of stdoutOf("dpkg", ["--listfiles", ...packages]))
      if (/\.so(?:\.|$)/.test(line) && existsSync(line)) copy(line, line);
    for (const [from, to] of Object.entries(programs)) {
      for (const line of stdoutOf("ldd", [from])) {
        const [library] = /\/\S+/.exec(line) ?? [];
        if (library !== undefined && !existsSync(join(tree, library))) copy(library, library);
      }
      copy(from, to);
    }
    for (const [from, to] of Object.entries(folders)) copy(from, to);
    for (const [from, to] of Object.entries(links)) symlinkSync(to, join(tree, from));
    mkdirSync(join(tree, "tmp"));
    chmodSync(join(tree, "tmp"), 0o1777);
    mkdirSync(join(tree, "etc"), { recursive: true });
    writeFileSync(join(tree, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    const container = await this.#ask("from", "scratch");
    await this.#ask("copy", "--quiet", container, tree, "/");
    await this.#ask("commit", "--quiet", "--rm", container, name);
    rmSync(tree, { recursive: true });
  }

  /** Builds with what this machine knows of the npm registry; nothing is pulled. */
  async build(context: string, file: string, name: string): Promise<Image> {
    const [npmrc, certificates] = [join(this.folder, "npmrc"), join(this.folder, "ca.crt")];
    writeFileSync(certificates, (await certificatesOf()).join("\n"));
    writeFileSync(npmrc, [...(await registryLines()), "cafile=/run/ca.crt", ""].join("\n"), { mode: 0o600 });
    const here = [
      "--isolation",
      "chroot",
      "--network",
      "host",
      "--pull-never",
      "--volume",
      `${certificates}:/run/ca.crt:ro`,
    ];
    await this.#ask("build", ...here, "--secret", `id=npmrc,src=${npmrc}`, "--tag", name, "--file", file, context);
    return this.image(name);
  }

  async image(name: string): Promise<Image> {
    const folder = mkdtempSync(join(this.folder, "image-"));
    await this.#ask("push", "--quiet", "--disable-compression", name, `dir:${folder}`);
    const read = (file: string) => JSON.parse(readFileSync(join(folder, file), "utf8"));
    const path = ({ digest }: { digest: string }) => digest.replace(/^sha256:/, "");
    const { config, layers } = read("manifest.json");
    return {
      config: read(path(config)).config,
      layers: layers.map((layer: { digest: string }) => join(folder, path(layer))),
    };
  }

  /** @returns the container, and the folder that is its root */
  async container(name: string): Promise<{ readonly id: string; readonly root: string }> {
    const id = await this.#ask("from", "--pull-never", name);
    return { id, root: await this.#ask("mount", id) };
  }

  /** Runs a program in a container as its image's user, in its image's folder. Mounts: `HOST:CONTAINER[:ro]`. */
  async run(
    container: string,
    command: readonly string[],
    {
      mounts = [],
      env = {},
    }: { readonly mounts?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Ended> {
    const options = [
      ...mounts.flatMap((mount) => ["--volume", mount]),
      ...Object.entries(env).flatMap(([key, value]) => ["--env", `${key}=${value}`]),
    ];
    const args = ["run", "--isolation", "chroot", ...options, container, "--", ...command];
    try {
      return { code: 0, ...(await run("buildah", this.#all(args))) };
    } catch (error) {
      return error as Ended;
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The folder of the npm that is on the PATH. */
export async function npmFolder(): Promise<string> {
  const { stdout } = await run("sh", ["-c", "command -v npm"]);
  return dirname(dirname(realpathSync(stdout.trim())));
}

const npm = async (...args: string[]) =>
  (await run("npm", args, { env: { ...process.env, npm_config_loglevel: "silent" } })).stdout.trim();

const ABOUT_REGISTRY = /^(?:registry|@[^:=]+:registry|\/\/[^=]+|(?:https-)?proxy|noproxy|strict-ssl)\s*=/;

/** Lines of an `.npmrc`: which registry, how to reach it, who asks. */
async function registryLines(): Promise<string[]> {
  const files = [await npm("config", "get", "globalconfig"), await npm("config", "get", "userconfig")];
  const lines = files.flatMap((file) => (existsSync(file) ? readFileSync(file, "utf8").split("\n") : []));
  const ofEnvironment = Object.entries(process.env).flatMap(([name, value]) => {
    const [, key] = /^npm_config_(.+)$/i.exec(name) ?? [];
    return key === undefined ? [] : [`${key.startsWith("//") ? key : key.toLowerCase().replaceAll("_", "-")}=${value}`];
  });
  return [...lines, ...ofEnvironment]
    .filter((line) => ABOUT_REGISTRY.test(line))
    .map((line) => line.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => process.env[name] ?? ""));
}

/** Whom npm trusts here. */
async function certificatesOf(): Promise<string[]> {
  const files = [await npm("config", "get", "cafile"), process.env["NODE_EXTRA_CA_CERTS"] ?? ""];
  return [...rootCertificates, ...files.filter(existsSync).map((file) => readFileSync(file, "utf8"))];
}
