// Stand-in for `k6/http`: `asyncRequest` over Node's own client, with headers as k6 gives them. Each request has a
// connection of its own, so that none can be one that the server is about to close.

import * as plain from "node:http";
import * as secure from "node:https";
import { performance } from "node:perf_hooks";

import { current } from "../engine.js";
import { registry } from "../metrics.js";

const requests = registry.metric("http_reqs", "counter");
const duration = registry.metric("http_req_duration", "trend", true);
const failed = registry.metric("http_req_failed", "rate");

const PARAMS = ["headers", "redirects", "timeout", "tags", "responseType", "responseCallback"];

/** `replay-nonce` as Go writes it: `Replay-Nonce`. */
function canonical(name) {
  return name.toLowerCase().replace(/(^|-)([a-z])/g, (_, dash, letter) => dash + letter.toUpperCase());
}

function headersOf(raw) {
  const headers = {};
  for (let at = 0; at < raw.length; at += 2) {
    const name = canonical(raw[at]);
    headers[name] = headers[name] === undefined ? raw[at + 1] : `${headers[name]}, ${raw[at + 1]}`;
  }
  return headers;
}

function milliseconds(text) {
  const [, number, unit] = /^(\d+)(ms|s|m)$/.exec(text) ?? [];
  if (number === undefined) {
    throw new Error(`${text} is no duration`);
  }
  return Number(number) * { ms: 1, s: 1000, m: 60000 }[unit];
}

function send(method, url, body, params) {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith("https:") ? secure : plain;
    const options = { method, headers: params.headers, timeout: milliseconds(params.timeout ?? "60s"), agent: false };
    const sent = request(url, options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (body += part));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: headersOf(response.rawHeaders), body }));
    });
    sent.on("timeout", () => sent.destroy(new Error("request timeout")));
    sent.on("error", reject);
    sent.end(body ?? undefined);
  });
}

function expectedStatuses(...expected) {
  return (status) =>
    expected.some((one) => (typeof one === "number" ? one === status : one.min <= status && status <= one.max));
}

/** As k6: a request that comes to nothing is an answer with status 0, and has failed. */
async function asyncRequest(method, url, body, params = {}) {
  const unknown = Object.keys(params).filter((name) => !PARAMS.includes(name));
  if (unknown.length > 0 || params.redirects !== 0) {
    throw new Error(`the stand-in knows ${PARAMS.join(", ")}, and follows no redirects`);
  }
  const begun = performance.now();
  const answer = await send(method, url, body, params).catch((error) => {
    console.error(`${method} ${url}: ${error.message}`);
    return { status: 0, headers: {}, body: null, error: error.message };
  });
  const took = performance.now() - begun;
  const expected = params.responseCallback ?? expectedStatuses({ min: 200, max: 399 });
  const scenario = current.getStore()?.scenario;
  const tags = { name: url, ...params.tags, method, url, status: String(answer.status), scenario };
  tags.expected_response = String(expected(answer.status));
  requests.add(1, tags);
  duration.add(took, tags);
  failed.add(!expected(answer.status), tags);
  return { url, ...answer, timings: { duration: took } };
}

export { asyncRequest, expectedStatuses };
export default { asyncRequest, expectedStatuses };
