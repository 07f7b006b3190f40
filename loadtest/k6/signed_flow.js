// Whole issuances, each request signed with ES256 by k6's own WebCrypto: new-order, authorizations, finalize,
// certificate. An open model: RATE issuances begin each second, whatever becomes of the others.
//
//   k6 run -e ACME_DIRECTORY=https://acme.example.com/profiles/trusted/directory loadtest/k6/signed_flow.js
//
// RATE (10), DURATION (5m), VUS that stand ready (50), MAX_VUS (200), ACCOUNTS (16), DOMAIN under which names are made
// up (k6.test), RUN, with which each name begins (random), EAB_KID and EAB_HMAC (base64url), LATENCY_FACTOR, by which
// every limit is multiplied (1), SUMMARY_JSON, a file for the whole summary.
//
// The server must not limit what this is there to exceed, or orders are refused and thresholds missed:
// CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR=0 (its default is 1000 an account; this makes 3000 of 16 accounts),
// CHANCERY_LIMITS_ACTIVE_ORDERS=0 (300 an account) and CHANCERY_LIMITS_NEW_ACCOUNTS_PER_HOUR=0 (100 an address, ACCOUNTS of
// them a run).
//
// Where the profile wants proof of control: CHALLENGE=http-01 and CHALLTESTSRV, the management URL of
// pebble-challtestsrv (http://127.0.0.1:8055), to which the server must be led for the names under DOMAIN.

import { check } from "k6";
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";

import { AcmeError, Client, readDirectory } from "./acme.js";
import { base64url, generateKey, importKey } from "./jose.js";
import { TREND_STATS, latencyThresholds, number, written } from "./settings.js";
import { pause, transport } from "./transport.js";

const DIRECTORY = __ENV.ACME_DIRECTORY || "https://localhost:14000/profiles/trusted/directory";
const DOMAIN = __ENV.DOMAIN || "k6.test";
const CHALLENGE = __ENV.CHALLENGE || "none";
const CHALLTESTSRV = __ENV.CHALLTESTSRV || "http://127.0.0.1:8055";

const issuances = new Counter("acme_issuances");
const badNonces = new Counter("acme_bad_nonces");
const failures = new Counter("acme_failures");
const issuanceDuration = new Trend("acme_issuance_duration", true);

/** Milliseconds that the 95th and the 99th percentile may take. */
const LIMITS = /** @type {Record<string, [number, number]>} */ ({
  new_nonce: [100, 250],
  new_account: [300, 500],
  new_order: [200, 400],
  authorization: [150, 300],
  order: [150, 300],
  finalize: [300, 600],
  certificate: [150, 300],
  ...(CHALLENGE === "http-01" ? { challenge: [200, 400] } : {}),
});
const FACTOR = number(__ENV.LATENCY_FACTOR, 1);

/** @type {import("k6/options").Options} */
export const options = {
  scenarios: {
    issuances: {
      executor: "constant-arrival-rate",
      rate: number(__ENV.RATE, 10),
      timeUnit: "1s",
      duration: __ENV.DURATION || "5m",
      preAllocatedVUs: number(__ENV.VUS, 50),
      maxVUs: number(__ENV.MAX_VUS, 200),
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    checks: ["rate>0.999"],
    http_req_failed: ["rate<0.001"],
    // An issuance that no VU was free for is not measured, so there must be none.
    dropped_iterations: ["count==0"],
    acme_issuances: ["count>0"],
    acme_issuance_duration: [`p(95)<${2000 * FACTOR}`, `p(99)<${4000 * FACTOR}`],
    ...latencyThresholds(LIMITS, FACTOR),
  },
};

/**
 * What VUs get from `setup`: no more than JSON can carry.
 * @typedef {{ directory: import("./acme.js").Directory, run: string,
 *   accounts: { kid: string, exported: EcJwk }[] }} Prepared
 */

export async function setup() {
  const directory = await readDirectory(transport, DIRECTORY);
  const external = __ENV.EAB_KID ? { kid: __ENV.EAB_KID, hmac: __ENV.EAB_HMAC } : undefined;
  const accounts = [];
  for (let made = 0; made < number(__ENV.ACCOUNTS, 16); made += 1) {
    const key = await generateKey();
    const kid = await new Client({ transport, directory, key, pause }).register({ external });
    accounts.push({ kid, exported: key.exported });
  }
  const random = base64url(crypto.getRandomValues(new Uint8Array(6))).toLowerCase().replace(/[-_]/g, "0");
  return { directory, accounts, run: __ENV.RUN || `r${random}` };
}

/** @type {import("./acme.js").Publish} */
async function publish(token, keyAuthorization) {
  const tell = async (/** @type {string} */ path, /** @type {object} */ what) => {
    const url = `${CHALLTESTSRV}/${path}`;
    const body = JSON.stringify(what);
    const answer = await transport({ method: "POST", url, name: "responder", expected: [200], body });
    if (answer.status !== 200) {
      throw new AcmeError("responder", `${url} answered ${answer.status}`);
    }
  };
  await tell("add-http01", { token, content: keyAuthorization });
  return () => tell("del-http01", { token });
}

/**
 * This VU's client, with nonces of its own: each VU has its own copy of this module.
 * @type {Client | undefined}
 */
let client;

/** @param {Prepared} prepared */
async function clientOf(prepared) {
  const account = prepared.accounts[exec.vu.idInTest % prepared.accounts.length];
  const key = await importKey(account.exported);
  const onBadNonce = () => badNonces.add(1);
  return new Client({ transport, directory: prepared.directory, key, kid: account.kid, pause, onBadNonce });
}

/** @param {Prepared} prepared */
export default async function (prepared) {
  client ??= await clientOf(prepared);
  const name = `${prepared.run}-${exec.scenario.iterationInTest}.${DOMAIN}`;
  const begun = Date.now();
  let issued = false;
  try {
    await client.issue([name], CHALLENGE === "http-01" ? publish : undefined);
    issued = true;
    issuances.add(1);
    issuanceDuration.add(Date.now() - begun);
  } catch (error) {
    failures.add(1, { step: error instanceof AcmeError ? error.step : "client" });
    console.error(`${name}: ${error}`);
  }
  check(issued, { "a certificate for the key and the name was issued": (done) => done });
}

/** @param {import("./settings.js").Summary} data */
export function handleSummary(data) {
  const numbers = ["acme_issuances", "acme_failures", "acme_bad_nonces", "dropped_iterations", "http_reqs", "checks"];
  return written(data, numbers, __ENV.SUMMARY_JSON);
}
