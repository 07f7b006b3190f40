-- The durable state of a fleet (design §3), in the subset that Postgres and SQLite share: times are microseconds
-- since the epoch (BIGINT), ids and states are TEXT, JSON is opaque text, truth is 0 or 1.
-- No foreign keys: rows that belong together are written in one statement with ids that the program chose, and a
-- foreign key would make every order of a shared account queue for the account's row.

CREATE TABLE accounts (
  id TEXT PRIMARY KEY,
  key_thumbprint TEXT NOT NULL UNIQUE,
  jwk TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('valid', 'deactivated', 'revoked')),
  contacts TEXT NOT NULL,
  terms_agreed_at BIGINT,
  created_at BIGINT NOT NULL
);

CREATE TABLE authorizations (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  profile TEXT NOT NULL,
  identifier_type TEXT NOT NULL CHECK (identifier_type IN ('dns', 'ip')),
  identifier_value TEXT NOT NULL,
  wildcard BIGINT NOT NULL CHECK (wildcard IN (0, 1)),
  outcome TEXT NOT NULL CHECK (outcome IN ('pending', 'valid', 'invalid', 'deactivated', 'revoked')),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  token TEXT NOT NULL,
  challenge_types TEXT NOT NULL,
  attempted TEXT,
  key_thumbprint TEXT,
  lease_token TEXT,
  lease_until BIGINT,
  claims BIGINT NOT NULL DEFAULT 0,
  validated_at BIGINT,
  error TEXT
);

-- Reuse (ORD-05), revocation by an account that is authorized for all names (CRT-04), deactivation of an account.
CREATE INDEX authorizations_open ON authorizations (account_id, identifier_value, expires_at)
  WHERE outcome IN ('pending', 'valid');
-- Validation jobs (I-3): accepted, without an outcome.
CREATE INDEX authorizations_jobs ON authorizations (lease_until) WHERE outcome = 'pending' AND attempted IS NOT NULL;

CREATE TABLE orders (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  profile TEXT NOT NULL,
  identifiers TEXT NOT NULL,
  not_before BIGINT,
  not_after BIGINT,
  replaces TEXT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  progress TEXT NOT NULL CHECK (progress IN ('open', 'processing', 'valid', 'invalid')),
  error TEXT,
  serial TEXT,
  lease_token TEXT,
  lease_until BIGINT,
  claims BIGINT NOT NULL DEFAULT 0
);

-- The account's list of orders, by pages (ACC-09).
CREATE INDEX orders_of_account ON orders (account_id, id);
-- Issuance jobs (I-3).
CREATE INDEX orders_jobs ON orders (lease_until) WHERE progress = 'processing';

CREATE TABLE order_authorizations (
  order_id TEXT NOT NULL,
  position BIGINT NOT NULL,
  authorization_id TEXT NOT NULL,
  PRIMARY KEY (order_id, position)
);

-- One row a serial, written before the signature is made (I-4). The unique order is what makes a second certificate
-- for one order impossible, whatever crashes when.
CREATE TABLE certificates (
  serial TEXT PRIMARY KEY,
  order_id TEXT NOT NULL UNIQUE,
  account_id TEXT NOT NULL,
  profile TEXT NOT NULL,
  issuer_id TEXT NOT NULL,
  identifiers TEXT NOT NULL,
  key_sha256 TEXT NOT NULL,
  public_key BYTEA NOT NULL,
  not_before BIGINT NOT NULL,
  not_after BIGINT NOT NULL,
  der BYTEA,
  issued_at BIGINT,
  revoked_at BIGINT,
  revocation_reason BIGINT,
  replaced_by TEXT
);

-- What a CRL lists, and whether one is due (CRT-06).
CREATE INDEX certificates_revoked ON certificates (issuer_id, revoked_at) WHERE revoked_at IS NOT NULL;

-- Keys that were shown to be compromised, and get no further certificate (CRT-05).
CREATE TABLE blocked_keys (
  key_sha256 TEXT PRIMARY KEY,
  blocked_at BIGINT NOT NULL
);

CREATE TABLE crls (
  issuer_id TEXT PRIMARY KEY,
  number BIGINT NOT NULL,
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  der BYTEA NOT NULL
);
