// The requests of ACME that need no signature: how many clients can look at the server at once?
//
//   k6 run -e ACME_DIRECTORY=https://acme.example.com/directory loadtest/k6/acme_flow.js
//
// VUS (100), DURATION (5m), PAUSE_MS between two rounds of a VU (1000), LATENCY_FACTOR, by which every limit is
// multiplied (1), SUMMARY_JSON, a file for the whole summary.

import { check } from "k6";

import { header, json, readDirectory } from "./acme.js";
import { base64url } from "./jose.js";
import { TREND_STATS, latencyThresholds, number, written } from "./settings.js";
import { pause, transport } from "./transport.js";

const DIRECTORY = __ENV.ACME_DIRECTORY || "https://localhost:14000/directory";
const PAUSE_MS = number(__ENV.PAUSE_MS, 1000);

/** Milliseconds that the 95th and the 99th percentile may take. */
const LIMITS = /** @type {Record<string, [number, number]>} */ ({
  directory: [100, 250],
  new_nonce: [100, 250],
  new_nonce_get: [100, 250],
  renewal_info: [150, 400],
  wrong_method: [100, 250],
  wrong_content_type: [100, 250],
  not_signed: [100, 250],
});

/** @type {import("k6/options").Options} */
export const options = {
  vus: number(__ENV.VUS, 100),
  duration: __ENV.DURATION || "5m",
  summaryTrendStats: TREND_STATS,
  thresholds: {
    checks: ["rate>0.999"],
    http_req_failed: ["rate<0.001"],
    ...latencyThresholds(LIMITS, number(__ENV.LATENCY_FACTOR, 1)),
  },
};

export async function setup() {
  return readDirectory(transport, DIRECTORY);
}

/** The identifier of a certificate that could be, and is not (RFC 9773 §4.1): a key identifier and a serial number. */
function unknownCertificate() {
  const octets = crypto.getRandomValues(new Uint8Array(36));
  const serial = octets.subarray(20);
  serial[0] = (serial[0] & 0x3f) | 0x40;
  return `${base64url(octets.subarray(0, 20))}.${base64url(serial)}`;
}

/** @param {import("./acme.js").Directory} directory */
export default async function (directory) {
  const get = (/** @type {string} */ name, /** @type {string} */ url, /** @type {number} */ status, method = "GET") =>
    transport({ method, url, name, expected: [status] });
  const post = (/** @type {string} */ name, /** @type {string} */ type, /** @type {number} */ status) =>
    transport({
      method: "POST",
      url: directory.newAccount,
      name,
      expected: [status],
      body: "{}",
      headers: { "Content-Type": type },
    });
  const isProblem = (/** @type {import("./acme.js").Answer} */ answer) =>
    String(json(answer)?.type).startsWith("urn:ietf:params:acme:error:");

  const listed = await get("directory", DIRECTORY, 200);
  check(listed, { "the directory lists new-order": (answer) => json(answer)?.newOrder === directory.newOrder });

  const head = await get("new_nonce", directory.newNonce, 200, "HEAD");
  const nonce = await get("new_nonce_get", directory.newNonce, 204);
  check([head, nonce], {
    "each answer has a nonce": (answers) => answers.every((answer) => header(answer, "Replay-Nonce") !== undefined),
    "no nonce comes twice": ([one, other]) => header(one, "Replay-Nonce") !== header(other, "Replay-Nonce"),
    "nonces are not kept": (answers) => answers.every((answer) => header(answer, "Cache-Control") === "no-store"),
  });

  const info = await get("renewal_info", `${directory.renewalInfo}/${unknownCertificate()}`, 404);
  check(info, { "an unknown certificate is 404": (answer) => answer.status === 404 && isProblem(answer) });

  // What the server must refuse, and says why.
  const method = await get("wrong_method", directory.newOrder, 405);
  check(method, { "GET of new-order is 405": (answer) => answer.status === 405 && isProblem(answer) });
  const type = await post("wrong_content_type", "application/json", 415);
  check(type, { "another content type is 415": (answer) => answer.status === 415 && isProblem(answer) });
  const unsigned = await post("not_signed", "application/jose+json", 400);
  check(unsigned, { "what is not signed is 400": (answer) => answer.status === 400 && isProblem(answer) });

  await pause(PAUSE_MS);
}

/** @param {import("./settings.js").Summary} data */
export function handleSummary(data) {
  return written(data, ["http_reqs", "http_req_failed", "checks", "iterations"], __ENV.SUMMARY_JSON);
}
