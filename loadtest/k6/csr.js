// Certificate signing requests (RFC 2986) in as much DER as they need. Nothing of k6 is imported.

import { fromBase64, signEs256, utf8 } from "./jose.js";

const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const SEQUENCE = 0x30;
const SET = 0x31;
/** `[0]`, constructed: the attributes of a request. */
const ATTRIBUTES = 0xa0;
/** `[2]`, primitive: dNSName of GeneralName (RFC 5280 §4.2.1.6). */
const DNS_NAME = 0x82;

const EC_PUBLIC_KEY = [1, 2, 840, 10045, 2, 1];
const PRIME256V1 = [1, 2, 840, 10045, 3, 1, 7];
const ECDSA_WITH_SHA256 = [1, 2, 840, 10045, 4, 3, 2];
const EXTENSION_REQUEST = [1, 2, 840, 113549, 1, 9, 14];
const SUBJECT_ALT_NAME = [2, 5, 29, 17];

/**
 * One element: its tag, the length of what is in it, and that.
 * @param {number} tag
 * @param {...ArrayLike<number>} parts
 */
export function element(tag, ...parts) {
  const content = parts.flatMap((part) => Array.from(part));
  const length = [];
  for (let left = content.length; left > 0; left >>= 8) {
    length.unshift(left & 0xff);
  }
  const head = content.length < 0x80 ? [content.length] : [0x80 | length.length, ...length];
  return Uint8Array.from([tag, ...head, ...content]);
}

/**
 * An object identifier: the first two arcs share an octet, the others are in base 128.
 * @param {number[]} arcs
 */
export function objectIdentifier(arcs) {
  const [first, second, ...others] = arcs;
  const octets = others.flatMap((arc) => {
    const digits = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) {
      digits.unshift(0x80 | (left & 0x7f));
    }
    return digits;
  });
  return element(OBJECT_IDENTIFIER, [first * 40 + second, ...octets]);
}

/**
 * A number that is not negative: no zeros in front, but one where the first bit would be a sign.
 * @param {Uint8Array} octets
 */
export function integer(octets) {
  let at = 0;
  while (at < octets.length - 1 && octets[at] === 0) {
    at += 1;
  }
  const digits = octets.subarray(at);
  return element(INTEGER, digits[0] & 0x80 ? [0] : [], digits);
}

/**
 * The signature as X.509 wants it: what WebCrypto gives is r‖s of fixed length.
 * @param {Uint8Array} fixed
 */
export function signatureOf(fixed) {
  const half = fixed.length / 2;
  return element(SEQUENCE, integer(fixed.subarray(0, half)), integer(fixed.subarray(half)));
}

/**
 * The uncompressed point of a public key: what a certificate for this key holds.
 * @param {EcJwk} jwk
 */
export function pointOf(jwk) {
  return Uint8Array.from([0x04, ...fromBase64(jwk.x), ...fromBase64(jwk.y)]);
}

/**
 * A signed request for a certificate with an empty subject and these names.
 * @param {import("./jose.js").SigningKey} key
 * @param {string[]} names
 */
export async function certificateRequest(key, names) {
  const publicKey = element(
    SEQUENCE,
    element(SEQUENCE, objectIdentifier(EC_PUBLIC_KEY), objectIdentifier(PRIME256V1)),
    element(BIT_STRING, [0], pointOf(key.jwk)),
  );
  const generalNames = element(SEQUENCE, ...names.map((name) => element(DNS_NAME, utf8(name))));
  const extension = element(SEQUENCE, objectIdentifier(SUBJECT_ALT_NAME), element(OCTET_STRING, generalNames));
  const attribute = element(SEQUENCE, objectIdentifier(EXTENSION_REQUEST), element(SET, element(SEQUENCE, extension)));
  const version = integer(Uint8Array.of(0));
  const info = element(SEQUENCE, version, element(SEQUENCE), publicKey, element(ATTRIBUTES, attribute));
  const signature = signatureOf(await signEs256(key.privateKey, info));
  const algorithm = element(SEQUENCE, objectIdentifier(ECDSA_WITH_SHA256));
  return element(SEQUENCE, info, algorithm, element(BIT_STRING, [0], signature));
}

/**
 * Whether the first certificate of a PEM chain is for this key and these names: their octets are in it.
 * @param {string} chain
 * @param {EcJwk} jwk
 * @param {string[]} names
 */
export function isCertificateFor(chain, jwk, names) {
  const body = chain.split("-----BEGIN CERTIFICATE-----")[1]?.split("-----END CERTIFICATE-----")[0];
  if (body === undefined) {
    return false;
  }
  const text = (/** @type {Uint8Array} */ octets) => Array.from(octets, (octet) => String.fromCharCode(octet)).join("");
  const leaf = text(fromBase64(body));
  return leaf.includes(text(pointOf(jwk))) && names.every((name) => leaf.includes(text(element(DNS_NAME, utf8(name)))));
}
