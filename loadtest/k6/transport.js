// Requests by k6: redirects are not followed, each counts under the name of its step, and k6 is told which statuses are
// no failure.

import http from "k6/http";
import { setTimeout } from "k6/timers";

/**
 * @param {import("./acme.js").Request} request
 * @returns {Promise<import("./acme.js").Answer>}
 */
export async function transport(request) {
  const response = await http.asyncRequest(request.method, request.url, request.body ?? null, {
    headers: request.headers ?? {},
    redirects: 0,
    timeout: "30s",
    tags: { name: request.name },
    responseType: "text",
    responseCallback: http.expectedStatuses(...request.expected),
  });
  return { status: response.status, headers: response.headers, body: response.body ?? "" };
}

/**
 * Waits without holding up what else the VU does.
 * @param {number} milliseconds
 */
export function pause(milliseconds) {
  return /** @type {Promise<void>} */ (new Promise((resolve) => setTimeout(resolve, milliseconds)));
}
