// An ACME client (RFC 8555) over whatever sends requests. Nothing of k6 is imported.

import { certificateRequest, isCertificateFor } from "./csr.js";
import { base64url, externalBinding, generateKey, signedRequest, thumbprint } from "./jose.js";

/** How often a request is signed anew because its nonce was refused (RFC 8555 §6.5). */
const NONCE_ATTEMPTS = 5;
/** How long to wait between two looks at what the server still works on, and how often. */
const POLL_MS = 50;
const POLLS = 600;

const BAD_NONCE = "urn:ietf:params:acme:error:badNonce";

/**
 * `name` is that of the step, under which its requests are counted; `expected` are the statuses that are no failure.
 * @typedef {{ method: string, url: string, name: string, expected: number[], body?: string,
 *   headers?: Record<string, string> }} Request
 * @typedef {{ status: number, headers: Record<string, string>, body: string }} Answer
 * @typedef {(request: Request) => Promise<Answer>} Transport
 * @typedef {{ newNonce: string, newAccount: string, newOrder: string, renewalInfo: string }} Directory
 * @typedef {{ status: string, authorizations: string[], finalize: string, certificate?: string }} Order
 * @typedef {{ type: string, url: string, token: string }} Challenge
 * @typedef {{ status: string, challenges: Challenge[] }} Authorization
 * Puts the answer to a challenge where the server looks for it; gives back what takes it away.
 * @typedef {(token: string, keyAuthorization: string) => Promise<() => Promise<void>>} Publish
 */

/** An answer that a flow cannot go on from. */
export class AcmeError extends Error {
  /**
   * @param {string} step
   * @param {string} what
   */
  constructor(step, what) {
    super(`${step}: ${what}`);
    this.step = step;
  }
}

/**
 * A header, whatever the case of its name.
 * @param {Answer} answer
 * @param {string} name
 */
export function header(answer, name) {
  const found = Object.keys(answer.headers).find((key) => key.toLowerCase() === name.toLowerCase());
  return found === undefined ? undefined : answer.headers[found];
}

/**
 * The JSON of an answer, or nothing where there is none.
 * @param {Answer} answer
 */
export function json(answer) {
  try {
    return JSON.parse(answer.body);
  } catch {
    return undefined;
  }
}

/**
 * What the directory lists.
 * @param {Transport} transport
 * @param {string} url
 * @returns {Promise<Directory>}
 */
export async function readDirectory(transport, url) {
  const answer = await transport({ method: "GET", url, name: "directory", expected: [200] });
  const directory = json(answer);
  if (answer.status !== 200 || directory?.newNonce === undefined) {
    throw new AcmeError("directory", `${url} answered ${answer.status} ${answer.body}`);
  }
  return directory;
}

/** One account's way through the protocol, one request after the other, each with the last answer's nonce. */
export class Client {
  /** @type {string | undefined} */
  #nonce;

  /**
   * @param {{ transport: Transport, directory: Directory, key: import("./jose.js").SigningKey, kid?: string,
   *   pause: (milliseconds: number) => Promise<void>, onBadNonce?: () => void }} parts
   */
  constructor(parts) {
    this.transport = parts.transport;
    this.directory = parts.directory;
    this.key = parts.key;
    this.kid = parts.kid;
    this.pause = parts.pause;
    this.onBadNonce = parts.onBadNonce ?? (() => {});
  }

  async #takeNonce() {
    if (this.#nonce === undefined) {
      const url = this.directory.newNonce;
      this.#keepNonce(await this.transport({ method: "HEAD", url, name: "new_nonce", expected: [200] }));
    }
    const nonce = this.#nonce;
    this.#nonce = undefined;
    if (nonce === undefined) {
      throw new AcmeError("new_nonce", "no nonce was given");
    }
    return nonce;
  }

  /** @param {Answer} answer */
  #keepNonce(answer) {
    this.#nonce = header(answer, "Replay-Nonce") ?? this.#nonce;
  }

  /**
   * A signed request, and its answer if that has one of the `expected` statuses.
   * @param {string} name
   * @param {string} url
   * @param {object | null} payload none for POST-as-GET
   * @param {number[]} expected
   */
  async post(name, url, payload, expected = [200]) {
    for (let attempt = 1; ; attempt += 1) {
      const about = { url, nonce: await this.#takeNonce(), kid: this.kid };
      const body = JSON.stringify(await signedRequest(this.key, about, payload));
      const headers = { "Content-Type": "application/jose+json" };
      const answer = await this.transport({ method: "POST", url, name, expected, body, headers });
      this.#keepNonce(answer);
      if (expected.includes(answer.status)) {
        return answer;
      }
      if (json(answer)?.type !== BAD_NONCE || attempt === NONCE_ATTEMPTS) {
        throw new AcmeError(name, `${url} answered ${answer.status} ${answer.body}`);
      }
      this.onBadNonce();
    }
  }

  /**
   * Makes the account, or finds it.
   * @param {{ contact?: string[], external?: { kid: string, hmac: string } }} about
   */
  async register(about = {}) {
    const url = this.directory.newAccount;
    const binding = about.external && (await externalBinding(about.external, this.key.jwk, url));
    const payload = { termsOfServiceAgreed: true, contact: about.contact, externalAccountBinding: binding };
    const answer = await this.post("new_account", url, payload, [200, 201]);
    this.kid = header(answer, "Location");
    return this.kid;
  }

  /**
   * POST-as-GET until the status is one of `wanted`; any but `waiting` ends it.
   * @param {string} name
   * @param {string} url
   * @param {string[]} wanted
   * @param {string[]} waiting
   */
  async #poll(name, url, wanted, waiting) {
    for (let look = 0; look < POLLS; look += 1) {
      const answer = await this.post(name, url, null);
      const object = json(answer);
      if (wanted.includes(object?.status)) {
        return object;
      }
      if (!waiting.includes(object?.status)) {
        throw new AcmeError(name, answer.body);
      }
      await this.pause(POLL_MS);
    }
    throw new AcmeError(name, `${url} is not ${wanted.join(" or ")} after ${(POLLS * POLL_MS) / 1000} s`);
  }

  /**
   * Proves control by http-01 where the authorization still wants it; `publish` is absent where names are trusted.
   * @param {string} url
   * @param {Publish | undefined} publish
   */
  async #authorize(url, publish) {
    const authorization = /** @type {Authorization} */ (json(await this.post("authorization", url, null)));
    if (authorization.status === "valid") {
      return;
    }
    const challenge = authorization.challenges.find((offered) => offered.type === "http-01");
    if (publish === undefined || challenge === undefined) {
      throw new AcmeError("authorization", `${url} wants a challenge, and none is set up`);
    }
    const withdraw = await publish(challenge.token, `${challenge.token}.${await thumbprint(this.key.jwk)}`);
    try {
      await this.post("challenge", challenge.url, {});
      await this.#poll("authorization", url, ["valid"], ["pending"]);
    } finally {
      await withdraw();
    }
  }

  /**
   * A whole issuance: the chain in PEM, for a key of its own.
   * @param {string[]} names
   * @param {Publish} [publish]
   */
  async issue(names, publish) {
    const identifiers = names.map((value) => ({ type: "dns", value }));
    const made = await this.post("new_order", this.directory.newOrder, { identifiers }, [201]);
    const url = header(made, "Location") ?? "";
    for (const authorization of /** @type {Order} */ (json(made)).authorizations) {
      await this.#authorize(authorization, publish);
    }
    const ready = /** @type {Order} */ (await this.#poll("order", url, ["ready"], ["pending"]));
    const key = await generateKey();
    const csr = base64url(await certificateRequest(key, names));
    const finalized = await this.post("finalize", ready.finalize, { csr });
    let order = /** @type {Order} */ (json(finalized));
    if (order.status !== "valid") {
      order = await this.#poll("order", url, ["valid"], ["processing"]);
    }
    const { body } = await this.post("certificate", order.certificate ?? "", null);
    if (!isCertificateFor(body, key.jwk, names)) {
      throw new AcmeError("certificate", `not for the key and ${names.join(", ")}: ${body}`);
    }
    return { chain: body, privateJwk: key.exported };
  }
}
