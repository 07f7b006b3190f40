// What ACME signs with: base64url, ES256 and HS256 JWS, thumbprints. Nothing of k6 is imported, so that Node can hold
// this to other implementations; of the global scope it takes `crypto` alone.

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const P256 = /** @type {const} */ ({ name: "ECDSA", namedCurve: "P-256" });

/** Octets of a P-256 coordinate. */
const COORDINATE = 32;

/**
 * A key pair that signs: the private half for WebCrypto, the public half as ACME sends it.
 * @typedef {{ privateKey: CryptoKey, jwk: EcJwk }} SigningKey
 */

/**
 * The UTF-8 octets of a text.
 * @param {string} text
 */
export function utf8(text) {
  const octets = [];
  for (const letter of text) {
    const code = /** @type {number} */ (letter.codePointAt(0));
    if (code < 0x80) {
      octets.push(code);
    } else if (code < 0x800) {
      octets.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      octets.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    } else {
      octets.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    }
  }
  return Uint8Array.from(octets);
}

/**
 * base64url without padding.
 * @param {ArrayLike<number>} octets
 */
export function base64url(octets) {
  let text = "";
  for (let at = 0; at < octets.length; at += 3) {
    const left = octets.length - at;
    const bits = (octets[at] << 16) | ((left > 1 ? octets[at + 1] : 0) << 8) | (left > 2 ? octets[at + 2] : 0);
    text += ALPHABET[bits >> 18] + ALPHABET[(bits >> 12) & 63];
    text += (left > 1 ? ALPHABET[(bits >> 6) & 63] : "") + (left > 2 ? ALPHABET[bits & 63] : "");
  }
  return text;
}

/**
 * The octets of base64 or base64url, padded or not; white space is passed over, as PEM needs it.
 * @param {string} text
 */
export function fromBase64(text) {
  const octets = [];
  let bits = 0;
  let count = 0;
  for (const letter of text.replace(/\s+/g, "").replace(/=+$/, "").replace(/\+/g, "-").replace(/\//g, "_")) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) {
      throw new Error(`${letter} is not of base64`);
    }
    bits = ((bits << 6) | value) & 0xffffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      octets.push((bits >> count) & 0xff);
    }
  }
  return Uint8Array.from(octets);
}

/**
 * A coordinate or scalar as long as RFC 7518 §6.2.1.2 wants it: k6 leaves the leading zeros of a coordinate out.
 * @param {string} text
 */
function atFullLength(text) {
  const octets = fromBase64(text);
  const full = new Uint8Array(COORDINATE);
  full.set(octets, COORDINATE - octets.length);
  return base64url(full);
}

/**
 * The members of a public key that ACME sends.
 * @param {EcJwk} jwk
 * @returns {EcJwk}
 */
export function publicJwk(jwk) {
  return { crv: jwk.crv, kty: jwk.kty, x: atFullLength(jwk.x), y: atFullLength(jwk.y) };
}

/** A new P-256 key, and its private JWK: the only form in which k6 hands a key from `setup` to a VU. */
export async function generateKey() {
  const pair = await crypto.subtle.generateKey(P256, true, ["sign", "verify"]);
  const exported = await crypto.subtle.exportKey("jwk", pair.privateKey);
  const jwk = publicJwk(exported);
  return { privateKey: pair.privateKey, jwk, exported: { ...jwk, d: atFullLength(exported.d ?? "") } };
}

/**
 * The key of a private JWK.
 * @param {EcJwk} exported
 * @returns {Promise<SigningKey>}
 */
export async function importKey(exported) {
  const privateKey = await crypto.subtle.importKey("jwk", exported, P256, false, ["sign"]);
  return { privateKey, jwk: publicJwk(exported) };
}

/**
 * The fixed-length signature r‖s, which JWS takes as it is.
 * @param {CryptoKey} privateKey
 * @param {Uint8Array} data
 */
export async function signEs256(privateKey, data) {
  return new Uint8Array(await crypto.subtle.sign({ name: "ECDSA", hash: { name: "SHA-256" } }, privateKey, data));
}

/**
 * The thumbprint of a key (RFC 7638 §3): its required members in lexicographic order.
 * @param {EcJwk} jwk
 */
export async function thumbprint(jwk) {
  return digest(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }));
}

/**
 * SHA-256 of a text, in base64url.
 * @param {string} text
 */
export async function digest(text) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(text))));
}

/**
 * A flattened JWS (RFC 7515 §7.2.2).
 * @param {object} header the protected header
 * @param {object | null} payload none for POST-as-GET (RFC 8555 §6.3)
 * @param {(data: Uint8Array) => Promise<Uint8Array>} sign
 */
async function jws(header, payload, sign) {
  const encoded = {
    protected: base64url(utf8(JSON.stringify(header))),
    payload: payload === null ? "" : base64url(utf8(JSON.stringify(payload))),
  };
  const signature = await sign(utf8(`${encoded.protected}.${encoded.payload}`));
  return { ...encoded, signature: base64url(signature) };
}

/**
 * A signed request: by `kid` where the account is known, by the key itself where it is not (RFC 8555 §6.2).
 * @param {SigningKey} key
 * @param {{ url: string, nonce: string, kid?: string }} about
 * @param {object | null} payload
 */
export async function signedRequest(key, about, payload) {
  const by = about.kid === undefined ? { jwk: key.jwk } : { kid: about.kid };
  const header = { alg: "ES256", ...by, nonce: about.nonce, url: about.url };
  return jws(header, payload, (data) => signEs256(key.privateKey, data));
}

/**
 * The binding to an external account (RFC 8555 §7.3.4): the account's key, with a MAC by the external account's.
 * @param {{ kid: string, hmac: string }} external the MAC key in base64url
 * @param {EcJwk} jwk
 * @param {string} url that of new-account
 */
export async function externalBinding(external, jwk, url) {
  const algorithm = /** @type {const} */ ({ name: "HMAC", hash: { name: "SHA-256" } });
  const key = await crypto.subtle.importKey("raw", fromBase64(external.hmac), algorithm, false, ["sign"]);
  const header = { alg: "HS256", kid: external.kid, url };
  return jws(header, jwk, async (data) => new Uint8Array(await crypto.subtle.sign({ name: "HMAC" }, key, data)));
}
