// @ts-check
/**
 * A small ACME client on node's acme-client:
 *
 *     client.js issue CHALLENGE FOLDER NAME…    a certificate: FOLDER/chain.pem and FOLDER/key.pem
 *     client.js revoke FOLDER REASON
 *
 * The environment says the rest: ACME_DIRECTORY, NODE_EXTRA_CA_CERTS (what the server is trusted by), ACME_ACCOUNT (a
 * file, made at first), ACME_EAB_KID and ACME_EAB_KEY, and where challenges are answered: ACME_WEBROOT (a file a
 * token), ACME_ALPN (NAME.crt.pem and NAME.key.pem), ACME_DNS_HOOK (a program: present NAME VALUE).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import acme from 'acme-client';

/** What the library has no constants for (RFC 5280 §5.3.1). */
const REASONS = { keyCompromise: 1, superseded: 4 };

/** @param {string} name */
function variable(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** A client with the account of the last run, or with a new one. */
async function open() {
  const file = variable('ACME_ACCOUNT');
  const kept = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
  const accountKey = kept?.key ?? (await acme.crypto.createPrivateEcdsaKey()).toString();
  const kid = process.env.ACME_EAB_KID;
  const client = new acme.Client({
    directoryUrl: variable('ACME_DIRECTORY'),
    accountKey,
    accountUrl: kept?.url,
    externalAccountBinding: kid === undefined ? undefined : { kid, hmacKey: variable('ACME_EAB_KEY') },
    // It asks at once, and then, where nothing else is said, every five seconds.
    backoffMin: 1000,
  });
  if (kept === undefined) {
    await client.createAccount({ termsOfServiceAgreed: true, contact: ['mailto:node@example.org'] });
    writeFileSync(file, JSON.stringify({ key: accountKey, url: client.getAccountUrl() }));
  }
  console.log(`account ${client.getAccountUrl()}`);
  return client;
}

/**
 * Lays the answer where the server will look for it.
 * @param {acme.Authorization} authorization
 * @param {{ type: string, token: string }} challenge
 * @param {string} answer the key authorization; of dns-01, its digest
 */
async function present(authorization, challenge, answer) {
  const name = authorization.identifier.value;
  if (challenge.type === 'http-01') {
    writeFileSync(join(variable('ACME_WEBROOT'), challenge.token), answer);
  } else if (challenge.type === 'tls-alpn-01') {
    const [key, certificate] = await acme.crypto.createAlpnCertificate(authorization, answer);
    writeFileSync(join(variable('ACME_ALPN'), `${name}.key.pem`), key);
    writeFileSync(join(variable('ACME_ALPN'), `${name}.crt.pem`), certificate);
  } else {
    execFileSync(variable('ACME_DNS_HOOK'), ['present', `_acme-challenge.${name}`, answer]);
  }
}

const [action, ...rest] = process.argv.slice(2);
const client = await open();
if (action === 'issue') {
  const [challenge, folder, ...altNames] = rest;
  const [key, csr] = await acme.crypto.createCsr({ altNames }, await acme.crypto.createPrivateEcdsaKey());
  const chain = await client.auto({
    csr,
    termsOfServiceAgreed: true,
    challengePriority: [challenge],
    // Its own look at the answer goes to the ports of the RFC.
    skipChallengeVerification: true,
    challengeCreateFn: present,
    challengeRemoveFn: async () => {},
  });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'key.pem'), key);
  writeFileSync(join(folder, 'chain.pem'), chain);
} else if (action === 'revoke') {
  const [folder, reason] = rest;
  const leaf = acme.crypto.splitPemChain(readFileSync(join(folder, 'chain.pem')))[0];
  await client.revokeCertificate(leaf, { reason: REASONS[/** @type {keyof typeof REASONS} */ (reason)] });
} else {
  throw new Error('issue CHALLENGE FOLDER NAME… or revoke FOLDER REASON');
}
