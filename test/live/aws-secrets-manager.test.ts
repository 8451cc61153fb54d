import {
  CreateSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, Place, policyText, type PolicyText } from "../support/command-line.ts";
import { motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire, type WireCall } from "../support/wire.ts";

const there = (await motoPython()) !== null;

/** What AWS answers to who may do all that he asks about. */
function allAllowed(call: WireCall): string {
  const results: string[] = [];
  for (let i = 1; ; i++) {
    const action = call.param(`ActionNames.member.${i}`);
    if (action === undefined) break;
    const member = `<EvalActionName>${action}</EvalActionName><EvalDecision>allowed</EvalDecision>`;
    results.push(`<member>${member}<EvalResourceName>*</EvalResourceName></member>`);
  }
  const result = `<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>${results.join("")}</EvaluationResults></SimulatePrincipalPolicyResult>`;
  return `<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">${result}<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>`;
}

describe.runIf(there)("a rotation into Secrets Manager", () => {
  let moto: Moto;
  let wire: Wire;
  let authority: TestAuthority;
  let commands: CommandLine;
  let stranger: SecretsManagerClient;
  const places: Place[] = [];
  beforeAll(async () => {
    [moto, authority] = await Promise.all([startMoto(), startTestAuthority()]);
    wire = await startWire(() => moto.url);
    commands = new CommandLine();
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const credentials = { accessKeyId, secretAccessKey };
    stranger = new SecretsManagerClient({ region: REGION, endpoint: moto.url, credentials });
  });
  afterAll(async () => {
    for (const place of places) place.remove();
    commands?.remove();
    await wire?.close();
    await authority?.close();
    await moto?.stop();
  });

  async function secret(name: string, text: PolicyText = {}, body = '{"theirs":1.0}'): Promise<Place> {
    await authority.addClient(name);
    await stranger.send(new CreateSecretCommand({ Name: `prod/${name}`, SecretString: body }));
    const place = new Place({ ADMIN: authority.adminToken, ...moto.env, AWS_ENDPOINT_URL: wire.url });
    places.push(place);
    const timing = "{ propagation: 0s, settle: 0s }";
    const stores = `[{ type: aws-secrets-manager, region: ${REGION}, name: prod/${name}, fields: { API_KEY: apiKey }, timing: ${timing} }]`;
    place.policy(policyText(authority.url, [{ name, stores }], text));
    wire.reset();
    wire.instead = (call) =>
      call.action === "SimulatePrincipalPolicy" ? { status: 200, body: allAllowed(call) } : null;
    return place;
  }

  /** The calls to Secrets Manager that a command needs. */
  async function calls(place: Place, ...args: string[]): Promise<string[]> {
    const from = wire.calls.length;
    const { code, stderr } = await commands.run(place, ...args);
    expect(code, stderr).toBe(0);
    const elsewhere = ["GetCallerIdentity", "SimulatePrincipalPolicy"];
    return wire.calls.slice(from).flatMap(({ action }) => (elsewhere.includes(action) ? [] : [action]));
  }

  const current = async (name: string): Promise<string | undefined> =>
    (await stranger.send(new GetSecretValueCommand({ SecretId: name, VersionStage: "AWSCURRENT" }))).SecretString;

  it("takes ten calls at most, leaves siblings as they are and one label of ours", async () => {
    const place = await secret("whole");
    expect((await calls(place, "rotate", "whole", "--wait")).length).toBeLessThanOrEqual(6);
    const all = await calls(place, "rotate", "whole", "--wait");
    expect(all.length, all.join(" ")).toBeLessThanOrEqual(10);
    const { VersionIdsToStages = {} } = await stranger.send(new DescribeSecretCommand({ SecretId: "prod/whole" }));
    const labels = Object.values(VersionIdsToStages).flat();
    const ours = labels.filter((label) => label.startsWith("keyturn/"));
    expect(labels.toSorted()).toEqual(["AWSCURRENT", "AWSPREVIOUS", ...ours]);
    expect(ours).toEqual([expect.stringMatching(/^keyturn\/v2-/)]);
    const [, key = ""] = /^\{"theirs":1\.0,"API_KEY":"([^"]+)"\}$/.exec((await current("prod/whole")) ?? "") ?? [];
    expect((await authority.whoami(key)).status).toBe(200);
    expect(wire.calls.every(({ userAgent }) => userAgent.startsWith("keyturn/"))).toBe(true);
  });

  it("takes over what is there with one call more", async () => {
    const client = "taken";
    const place = await secret(client);
    const { value } = await authority.addKey(client);
    await stranger.send(
      new PutSecretValueCommand({ SecretId: `prod/${client}`, SecretString: `{"theirs":1.0,"API_KEY":"${value}"}` }),
    );
    await calls(place, "adopt", client);
    const all = await calls(place, "rotate", client, "--wait");
    expect(all.length, all.join(" ")).toBeLessThanOrEqual(11);
    expect((await authority.whoami(value)).status).toBe(401);
  });

  it("makes no call while time alone is awaited", async () => {
    const place = await secret("waiting", { minimum: "1h" });
    await calls(place, "rotate", "waiting", "--wait");
    await calls(place, "rotate", "waiting");
    expect(await calls(place, "run", "waiting")).toEqual([]);
  });

  it("rolls back in the overlap to the old value, among the siblings of now", async () => {
    const place = await secret("back", { minimum: "1h" });
    await calls(place, "rotate", "back", "--wait");
    const before = JSON.parse((await current("prod/back")) ?? "") as Record<string, string>;
    await calls(place, "rotate", "back");
    const { API_KEY } = JSON.parse((await current("prod/back")) ?? "") as Record<string, string>;
    expect(API_KEY).not.toBe(before["API_KEY"]);
    const changed = `{"theirs":2.00,"API_KEY":"${API_KEY}"}`;
    // In two steps: after a label was moved, moto's put leaves AWSCURRENT on two versions.
    const at = { SecretId: "prod/back" };
    const old = await stranger.send(new GetSecretValueCommand({ ...at, VersionStage: "AWSCURRENT" }));
    const put = new PutSecretValueCommand({ ...at, SecretString: changed, VersionStages: ["theirs"] });
    const ids = { MoveToVersionId: (await stranger.send(put)).VersionId, RemoveFromVersionId: old.VersionId };
    await stranger.send(new UpdateSecretVersionStageCommand({ ...at, VersionStage: "AWSCURRENT", ...ids }));
    await calls(place, "rollback", "back");
    expect(await current("prod/back")).toBe(`{"theirs":2.00,"API_KEY":"${before["API_KEY"]}"}`);
  });
});
