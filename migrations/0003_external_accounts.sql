-- External account binding (RFC 8555 §7.3.4): the keys that an operator hands out, and which of them an account was
-- bound by. A secret is sealed under a key of the configuration before it comes here.

CREATE TABLE external_account_keys (
  kid TEXT PRIMARY KEY,
  sealed_secret BYTEA NOT NULL,
  profile TEXT,
  uses_left BIGINT CHECK (uses_left >= 0),
  expires_at BIGINT,
  revoked_at BIGINT,
  created_at BIGINT NOT NULL
);

ALTER TABLE accounts ADD COLUMN external_account_kid TEXT;
ALTER TABLE accounts ADD COLUMN external_account_profile TEXT;
ALTER TABLE accounts ADD COLUMN external_account_binding TEXT;

-- How many accounts a key has bound, for the operator's list.
CREATE INDEX accounts_external ON accounts (external_account_kid) WHERE external_account_kid IS NOT NULL;

-- The newest key that still counts, which each replica opens when it starts.
CREATE INDEX external_account_keys_live ON external_account_keys (kid) WHERE revoked_at IS NULL;
