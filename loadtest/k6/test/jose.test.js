// What is signed is held to Node's own cryptography, and to the `jose` package where CHANCERY_TEST_JOSE says where it is.

import assert from "node:assert/strict";
import { createHmac, createPublicKey, verify, webcrypto } from "node:crypto";
import { test } from "node:test";

import {
  base64url,
  digest,
  externalBinding,
  fromBase64,
  generateKey,
  importKey,
  publicJwk,
  signedRequest,
  thumbprint,
  utf8,
} from "../jose.js";

globalThis.crypto ??= webcrypto;

const ABOUT = { url: "https://acme.test/order", nonce: "bm9uY2U" };

function parsed(part) {
  return JSON.parse(Buffer.from(part, "base64url").toString());
}

function isSignedBy(jws, jwk) {
  const key = createPublicKey({ key: jwk, format: "jwk" });
  const data = Buffer.from(`${jws.protected}.${jws.payload}`);
  return verify("sha256", data, { key, dsaEncoding: "ieee-p1363" }, Buffer.from(jws.signature, "base64url"));
}

test("base64url and UTF-8 are as Node has them, at every length", () => {
  for (let length = 0; length < 70; length += 1) {
    const octets = webcrypto.getRandomValues(new Uint8Array(length));
    const text = Buffer.from(octets).toString("base64url");
    assert.equal(base64url(octets), text);
    assert.deepEqual(fromBase64(text), octets);
    assert.deepEqual(fromBase64(Buffer.from(octets).toString("base64")), octets);
  }
  const text = "a é € 😀";
  assert.deepEqual(Buffer.from(utf8(text)), Buffer.from(text));
  assert.throws(() => fromBase64("a*b"), /not of base64/);
});

test("the digest of RFC 7638 §3.1", async () => {
  const n =
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj" +
    "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ" +
    "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK" +
    "nqDKgw";
  assert.equal(await digest(`{"e":"AQAB","kty":"RSA","n":"${n}"}`), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
});

test("a coordinate that lost its leading zeros gets them back", () => {
  const full = { kty: "EC", crv: "P-256", x: base64url([0, 0, ...Array(30).fill(7)]), y: base64url(Array(32).fill(9)) };
  const short = { ...full, x: base64url(Array(30).fill(7)), d: "AQ", ext: true };
  assert.deepEqual(publicJwk(short), full);
});

test("requests are signed, by the key itself or by the account's URL", async () => {
  const key = await generateKey();
  const first = await signedRequest(key, ABOUT, { agreed: true });
  assert.deepEqual(parsed(first.protected), { alg: "ES256", jwk: key.jwk, ...ABOUT });
  assert.deepEqual(parsed(first.payload), { agreed: true });
  assert.ok(isSignedBy(first, key.jwk));
  assert.ok(!isSignedBy({ ...first, payload: base64url(utf8("{}")) }, key.jwk));
  assert.ok(!("d" in key.jwk), "the private half stays here");

  const again = await importKey(JSON.parse(JSON.stringify(key.exported)));
  const get = await signedRequest(again, { ...ABOUT, kid: "https://acme.test/account" }, null);
  assert.deepEqual(parsed(get.protected), { alg: "ES256", kid: "https://acme.test/account", ...ABOUT });
  assert.equal(get.payload, "");
  assert.ok(isSignedBy(get, key.jwk), "the key that went through JSON is the same");
});

test("an external binding is the account's key under a MAC", async () => {
  const { jwk } = await generateKey();
  const secret = Buffer.from(webcrypto.getRandomValues(new Uint8Array(32)));
  const made = await externalBinding({ kid: "k1", hmac: secret.toString("base64url") }, jwk, ABOUT.url);
  assert.deepEqual(parsed(made.protected), { alg: "HS256", kid: "k1", url: ABOUT.url });
  assert.deepEqual(parsed(made.payload), jwk);
  const mac = createHmac("sha256", secret).update(`${made.protected}.${made.payload}`).digest("base64url");
  assert.equal(made.signature, mac);
});

const { CHANCERY_TEST_JOSE } = process.env;

test("jose agrees", { skip: CHANCERY_TEST_JOSE === undefined && "CHANCERY_TEST_JOSE is not set" }, async () => {
  const jose = await import(CHANCERY_TEST_JOSE);
  const key = await generateKey();
  assert.equal(await thumbprint(key.jwk), await jose.calculateJwkThumbprint(key.jwk));
  const signed = await signedRequest(key, ABOUT, { agreed: true });
  const read = await jose.flattenedVerify(signed, await jose.importJWK(key.jwk, "ES256"));
  assert.equal(Buffer.from(read.payload).toString(), '{"agreed":true}');
  const secret = webcrypto.getRandomValues(new Uint8Array(32));
  const bound = await externalBinding({ kid: "k1", hmac: base64url(secret) }, key.jwk, ABOUT.url);
  assert.equal((await jose.flattenedVerify(bound, secret)).protectedHeader.alg, "HS256");
});
