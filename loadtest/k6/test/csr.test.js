// Requests are held to openssl; DER to what is known of it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { webcrypto } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { certificateRequest, element, integer, isCertificateFor, objectIdentifier, signatureOf } from "../csr.js";
import { generateKey } from "../jose.js";

globalThis.crypto ??= webcrypto;

function hex(octets) {
  return Buffer.from(octets).toString("hex");
}

/** Runs `what` in a folder that is gone afterwards. */
function inFolder(what) {
  const folder = mkdtempSync(join(tmpdir(), "csr-"));
  try {
    return what(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("lengths, numbers and object identifiers in DER", () => {
  assert.equal(hex(element(0x04, Array(127).fill(1))).slice(0, 4), "047f");
  assert.equal(hex(element(0x04, Array(128).fill(1))).slice(0, 6), "048180");
  assert.equal(hex(element(0x04, Array(300).fill(1))).slice(0, 8), "0482012c");
  assert.equal(hex(integer(Uint8Array.of(0))), "020100");
  assert.equal(hex(integer(Uint8Array.of(0, 0, 0x7f))), "02017f");
  assert.equal(hex(integer(Uint8Array.of(0, 0x80))), "02020080");
  assert.equal(hex(objectIdentifier([1, 2, 840, 113549, 1, 9, 14])), "06092a864886f70d01090e");
  const half = (first) => [first, ...Array(31).fill(0)];
  const signature = signatureOf(Uint8Array.from([...half(0xff), ...Array(31).fill(0), 5]));
  assert.equal(hex(signature), `3026022100ff${"00".repeat(31)}020105`);
});

test("openssl reads a request and verifies its signature, whatever the signature's first bits", async () => {
  const names = ["one.k6.test", "*.other.k6.test"];
  // Of two numbers, each begins with a set bit every second time: a few requests have every kind.
  for (let round = 0; round < 8; round += 1) {
    const request = await certificateRequest(await generateKey(), names);
    const said = inFolder((folder) => {
      writeFileSync(join(folder, "request"), request);
      const command = "openssl req -inform DER -in request -noout -verify -text 2>&1";
      return execFileSync("sh", ["-c", command], { cwd: folder, encoding: "utf8" });
    });
    assert.match(said, /verify OK/);
    assert.match(said, /DNS:one\.k6\.test, DNS:\*\.other\.k6\.test/);
    assert.match(said, /Signature Algorithm: ecdsa-with-SHA256/);
  }
});

test("a certificate is told from one for another key or name", async () => {
  const key = await generateKey();
  const other = await generateKey();
  const request = await certificateRequest(key, ["one.k6.test"]);
  const signer = await webcrypto.subtle.exportKey("pkcs8", other.privateKey);
  const pem = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(signer).toString("base64")}\n-----END PRIVATE KEY-----\n`;
  const chain = inFolder((folder) => {
    writeFileSync(join(folder, "request"), request);
    writeFileSync(join(folder, "ca.pem"), pem);
    const run = (command) => execFileSync("openssl", command.split(" "), { cwd: folder, encoding: "utf8", stdio: "pipe" });
    // Any issuer does: what is looked at are the key and the names.
    run("req -x509 -new -key ca.pem -subj /CN=ca -out ca.crt");
    return run("x509 -req -inform DER -in request -CA ca.crt -CAkey ca.pem -CAcreateserial -copy_extensions copyall");
  });
  assert.ok(isCertificateFor(chain, key.jwk, ["one.k6.test"]));
  assert.ok(!isCertificateFor(chain, other.jwk, ["one.k6.test"]));
  assert.ok(!isCertificateFor(chain, key.jwk, ["one.k6.test", "two.k6.test"]));
  assert.ok(!isCertificateFor("no certificate", key.jwk, []));
});
