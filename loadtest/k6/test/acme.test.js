// The client against answers that are made up: nonces, errors, and what it waits for.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";

import { AcmeError, Client, readDirectory } from "../acme.js";
import { generateKey, thumbprint } from "../jose.js";

globalThis.crypto ??= webcrypto;

const DIRECTORY = { newNonce: "u:nonce", newAccount: "u:account", newOrder: "u:order", renewalInfo: "u:info" };
const BAD_NONCE = JSON.stringify({ type: "urn:ietf:params:acme:error:badNonce" });

/** A client of a server that gives these answers in turn, each with a new nonce, and what it was asked. */
async function clientOf(answers) {
  const asked = [];
  let nonces = 0;
  let paused = 0;
  let refused = 0;
  const transport = async (request) => {
    const signed = request.body?.startsWith("{") && JSON.parse(request.body).protected;
    const header = signed && JSON.parse(Buffer.from(signed, "base64url"));
    const payload = signed && Buffer.from(JSON.parse(request.body).payload, "base64url").toString();
    asked.push({ step: request.name, method: request.method, nonce: header && header.nonce, payload });
    const answer = request.method === "HEAD" ? { status: 200 } : answers.shift();
    assert.ok(answer, `${request.name} was not to be asked`);
    nonces += 1;
    return { status: answer.status, headers: { "Replay-Nonce": `n${nonces}`, ...answer.headers }, body: answer.body ?? "" };
  };
  const client = new Client({
    transport,
    directory: DIRECTORY,
    key: await generateKey(),
    kid: "u:me",
    pause: async () => void (paused += 1),
    onBadNonce: () => void (refused += 1),
  });
  return { client, asked, paused: () => paused, refused: () => refused };
}

test("each request takes the nonce of the last answer, and only the first asks for one", async () => {
  const { client, asked } = await clientOf([{ status: 200 }, { status: 200 }]);
  await client.post("one", "u:1", {});
  await client.post("two", "u:2", null);
  assert.deepEqual(asked.map(({ step, nonce }) => [step, nonce]), [["new_nonce", undefined], ["one", "n1"], ["two", "n2"]]);
});

test("a refused nonce is replaced and the request signed anew, but not for ever", async () => {
  const once = await clientOf([{ status: 400, body: BAD_NONCE }, { status: 200 }]);
  await once.client.post("step", "u:1", {});
  assert.deepEqual(once.asked.map(({ nonce }) => nonce), [undefined, "n1", "n2"]);
  assert.equal(once.refused(), 1);

  const always = await clientOf(Array(9).fill({ status: 400, body: BAD_NONCE }));
  await assert.rejects(always.client.post("step", "u:1", {}), AcmeError);
  assert.equal(always.asked.filter(({ step }) => step === "step").length, 5);
});

test("any other error ends the flow, and says at which step", async () => {
  const { client } = await clientOf([{ status: 503, body: "busy" }]);
  await assert.rejects(client.issue(["n.k6.test"]), (error) => error.step === "new_order" && /503 busy/.test(error.message));
});

test("an authorization that wants a challenge gets it, and the answer is withdrawn", async () => {
  const authorization = (status) => ({ status, challenges: [{ type: "http-01", url: "u:challenge", token: "tok" }] });
  const json = (value, status = 200, headers = {}) => ({ status, headers, body: JSON.stringify(value) });
  const { client, asked, paused } = await clientOf([
    json({ status: "pending", authorizations: ["u:authz"] }, 201, { Location: "u:order/1" }),
    json(authorization("pending")),
    json(authorization("pending").challenges[0]),
    json(authorization("pending")),
    json(authorization("valid")),
    json({ status: "ready", finalize: "u:finalize" }),
    json({ status: "processing" }),
    json({ status: "processing" }),
    json({ status: "valid", certificate: "u:certificate" }),
    { status: 200, body: "no certificate" },
  ]);
  const published = [];
  const publish = async (token, text) => {
    published.push(token, text);
    return async () => void published.push("withdrawn");
  };
  // All went well but the certificate: it is looked at.
  await assert.rejects(client.issue(["n.k6.test"], publish), (error) => error.step === "certificate");
  assert.deepEqual(published, ["tok", `tok.${await thumbprint(client.key.jwk)}`, "withdrawn"]);
  assert.equal(paused(), 2);
  assert.deepEqual(
    asked.slice(1).map(({ step }) => step),
    ["new_order", "authorization", "challenge", "authorization", "authorization", "order", "finalize", "order", "order",
      "certificate"],
  );
  assert.equal(asked[1].payload, '{"identifiers":[{"type":"dns","value":"n.k6.test"}]}');
  assert.equal(asked[2].payload, "", "POST-as-GET");
});

test("an order that becomes invalid is not waited for, nor a challenge that nobody answers", async () => {
  const invalid = { status: 200, body: '{"status":"invalid"}' };
  const made = { status: 201, headers: { Location: "u:o" }, body: '{"authorizations":[]}' };
  const first = await clientOf([made, invalid]);
  await assert.rejects(first.client.issue(["n.k6.test"]), (error) => error.step === "order");
  const wants = { status: 201, headers: { Location: "u:o" }, body: '{"authorizations":["u:a"]}' };
  const second = await clientOf([wants, { status: 200, body: '{"status":"pending","challenges":[]}' }]);
  await assert.rejects(second.client.issue(["n.k6.test"]), /none is set up/);
});

test("what is no directory is not taken for one", async () => {
  const transport = async () => ({ status: 404, headers: {}, body: '{"newNonce":"u"}' });
  await assert.rejects(readDirectory(transport, "u:d"), AcmeError);
});
