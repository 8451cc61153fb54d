// A service that follows a rotating key: it asks for the key before each request, and once more after a 401.
import { setTimeout as sleep } from "node:timers/promises";
import { keyturnClient, localSource } from "keyturn/client";

const AUTHORITY = process.env.AUTHORITY_URL ?? "http://127.0.0.1:8787";
const keys = keyturnClient({ source: localSource({ name: "shop" }), instance: `web-${process.pid}` });

for (;;) {
  const answer = await keys.withKey(({ apiKey }, headers) =>
    fetch(`${AUTHORITY}/v1/whoami`, { headers: { ...headers, "x-api-key": apiKey } }),
  );
  const { keyId, error } = await answer.json();
  console.log(answer.status, keyId ?? error);
  await sleep(1000);
}
