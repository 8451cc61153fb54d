#!/usr/bin/env node
// An issuer as a program: keys of one client of an API-key authority (`keyturn api-keys serve`), over its HTTP API.
//
//   issuer:
//     type: exec
//     command: [./issuer.mjs]
//     env: { ADMIN_TOKEN: "${env:ADMIN_TOKEN}" }
//     settings: { url: "http://127.0.0.1:8787", client: payments }
//     traits: { maxKeys: 2, canDisable: true, labels: true, identify: true, usage: { granularity: 1s, lag: 1s, seesDenied: true } }
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { json } from "node:stream/consumers";
import { Refusal, serve } from "./protocol.mjs";

const KINDS = {
  400: "invalid",
  401: "unauthenticated",
  403: "denied",
  404: "not-found",
  409: "conflict",
  429: "throttled",
};

async function ask({ settings: { url, client } }, method, path, body) {
  return call(`${url}/v1/admin/clients/${encodeURIComponent(client)}${path}`, {
    method,
    headers: { authorization: `Bearer ${process.env.ADMIN_TOKEN}` },
    ...(body && { body: JSON.stringify(body) }),
  });
}

async function call(url, { method = "GET", headers, body = "" }) {
  try {
    const outgoing = request(url, { method, headers, agent: false });
    outgoing.end(body);
    const [incoming] = await once(outgoing, "response");
    const answer = await json(incoming).catch(() => null);
    return { status: incoming.statusCode, answer };
  } catch (error) {
    // Nobody was there, so nothing has happened; whatever else was lost may have done its work.
    const applied = error.code === "ECONNREFUSED" ? "no" : "maybe";
    throw new Refusal("unavailable", "the authority does not answer", applied);
  }
}

/** Only what the authority itself says is believed: a proxy may answer anything. */
function refusalOf({ status, answer }) {
  const code = answer?.authority === undefined ? undefined : answer.error?.code;
  const kind = code === "quota" ? "quota" : (KINDS[status] ?? "unavailable");
  const refused = code !== undefined && status < 500;
  return new Refusal(kind, `the authority answered ${status} ${code ?? ""}`, refused ? "no" : "maybe");
}

function expectStatus(found, status) {
  if (found.status !== status || found.answer?.authority === undefined) throw refusalOf(found);
  return found.answer;
}

async function change(request, method, path, absentIsFine) {
  const found = await ask(request, method, path);
  if (absentIsFine && found.answer?.authority && found.answer.error?.code === "unknown-key") return;
  expectStatus(found, 200);
}

const keyPath = ({ keyId }) => `/keys/${encodeURIComponent(keyId)}`;

await serve({
  describe: async (request) => {
    const { authority, client } = expectStatus(await ask(request, "GET", ""), 200);
    const usage = { granularity: "1s", lag: "1s", seesDenied: true };
    const traits = { maxKeys: client.maxKeys, canDisable: true, labels: true, identify: true, usage };
    return { binding: `${authority}:${client.name}`, traits };
  },
  list: async (request) => {
    const { keys, now } = expectStatus(await ask(request, "GET", "/keys"), 200);
    const shown = keys.map(({ id, createdAt, status, label }) => ({ keyId: id, createdAt, state: status, label }));
    return { keys: shown, asOf: now };
  },
  issue: async (request) => {
    const { key } = expectStatus(await ask(request, "POST", "/keys", { label: request.label }), 201);
    return { keyId: key.id, value: { apiKey: key.value }, createdAt: key.createdAt };
  },
  verify: async ({ settings, value }) => {
    const headers = { "x-api-key": value.apiKey, "x-keyturn-instance": "keyturn" };
    const found = await call(`${settings.url}/v1/whoami`, { headers });
    if (found.status === 200 && found.answer?.client === settings.client) return "accepted";
    if (found.status === 401 && typeof found.answer?.error === "string") return "rejected";
    throw refusalOf(found);
  },
  disable: (request) => change(request, "POST", `${keyPath(request)}/disable`, true),
  enable: (request) => change(request, "POST", `${keyPath(request)}/enable`, false),
  delete: (request) => change(request, "DELETE", keyPath(request), true),
  identify: async (request) => {
    const sha256 = createHash("sha256").update(request.value.apiKey).digest("hex");
    return expectStatus(await ask(request, "POST", "/identify", { sha256 }), 200).keyId;
  },
  usage: async (request) => {
    const { usage } = expectStatus(await ask(request, "GET", `/usage?since=${Math.floor(request.since)}`), 200);
    const known = usage.filter(({ keyId }) => request.keyIds.includes(keyId));
    const event = ({ instance, outcome, first, last, count, longestGap }) => ({
      who: instance,
      outcome,
      first,
      last,
      count,
      own: instance === "keyturn",
      ...(longestGap !== null && { longestGap }),
    });
    const told = ({ keyId, from, until, crowded, events }) => ({
      keyId,
      status: crowded ? "unknown" : "covered",
      from,
      until,
      events: events.map(event),
    });
    return { usage: known.map(told) };
  },
});
