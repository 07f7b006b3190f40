// What k6 puts into the global scope and @types/k6 does not declare. Nothing else is global there: no `fetch`, no `URL`,
// no `atob`; a script that uses one is an error when the types are checked.

interface CryptoKey {
  readonly type: string;
}

interface EcJwk {
  kty: string;
  crv: string;
  x: string;
  y: string;
  d?: string;
}

interface SubtleCrypto {
  generateKey(
    algorithm: { name: "ECDSA"; namedCurve: "P-256" },
    extractable: boolean,
    usages: string[],
  ): Promise<{ privateKey: CryptoKey; publicKey: CryptoKey }>;
  exportKey(format: "jwk", key: CryptoKey): Promise<EcJwk>;
  importKey(
    format: "jwk",
    key: EcJwk,
    algorithm: { name: "ECDSA"; namedCurve: "P-256" },
    extractable: boolean,
    usages: string[],
  ): Promise<CryptoKey>;
  importKey(
    format: "raw",
    key: Uint8Array,
    algorithm: { name: "HMAC"; hash: { name: "SHA-256" } },
    extractable: boolean,
    usages: string[],
  ): Promise<CryptoKey>;
  sign(
    algorithm: { name: "ECDSA"; hash: { name: "SHA-256" } } | { name: "HMAC" },
    key: CryptoKey,
    data: Uint8Array,
  ): Promise<ArrayBuffer>;
  digest(algorithm: "SHA-256", data: Uint8Array): Promise<ArrayBuffer>;
}

declare const crypto: {
  getRandomValues(array: Uint8Array): Uint8Array;
  readonly subtle: SubtleCrypto;
};

declare const console: {
  log(text: string): void;
  error(text: string): void;
};
