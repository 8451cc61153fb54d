#!/usr/bin/env node
// A store as a program: JSON files in a folder, `NAME.json` with every version and which of them is served.
//
//   stores:
//     - { type: exec, command: [./store.mjs], settings: { folder: ./secrets }, traits: { staged: true } }
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Refusal, serve } from "./protocol.mjs";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

function fileOf({ settings, name }) {
  if (!NAME.test(name)) throw new Refusal("invalid", "has no such name");
  return join(resolve(settings.folder), `${name}.json`);
}

async function read(request) {
  try {
    return JSON.parse(await readFile(fileOf(request), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return { versions: {}, served: null };
    throw error;
  }
}

/** Reads, changes and writes while nobody else does. */
async function change(request, body) {
  const file = fileOf(request);
  if (!NAME.test(request.version)) throw new Refusal("invalid", "has no such version");
  await mkdir(resolve(request.settings.folder), { recursive: true, mode: 0o700 });
  const lock = `${file}.lock`;
  for (
    let tries = 0;
    !(await mkdir(lock).then(
      () => true,
      () => false,
    ));
    tries++
  ) {
    if (tries > 200) throw new Refusal("unavailable", "somebody else holds the lock");
    await sleep(20);
  }
  try {
    const state = await read(request);
    const result = await body(state);
    const temp = `${file}.${process.pid}.tmp`;
    await writeFile(temp, JSON.stringify(state), { mode: 0o600 });
    await rename(temp, file);
    return result;
  } finally {
    await rm(lock, { recursive: true, force: true });
  }
}

const same = (a, b) => JSON.stringify(Object.entries(a).toSorted()) === JSON.stringify(Object.entries(b).toSorted());

function stage(state, { version, value }) {
  const held = state.versions[version];
  if (held && !same(held, value)) throw new Refusal("conflict", "holds another value for this version");
  state.versions[version] = value;
}

await serve({
  describe: (request) => ({ binding: fileOf(request), traits: { staged: true } }),
  current: async (request) => {
    const { versions, served } = await read(request);
    return served && { ref: served.ref, value: versions[served.version] };
  },
  put: (request) =>
    change(request, (state) => {
      if ((state.served?.ref ?? null) !== request.expected) throw new Refusal("conflict", "serves something else");
      stage(state, request);
      const isServed = state.served?.version === request.version;
      if (!isServed || request.fresh) state.served = { version: request.version, ref: randomUUID() };
      return { ref: state.served.ref };
    }),
  stage: (request) => change(request, (state) => stage(state, request)),
  read: async (request) => {
    const value = (await read(request)).versions[request.version];
    return value ? { value } : null;
  },
  discard: (request) =>
    change(request, (state) => {
      if (state.served?.version === request.version) throw new Refusal("invalid", "serves this version");
      delete state.versions[request.version];
    }),
});
