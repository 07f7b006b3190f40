-- A compromised key is a fact about the key: every certificate that has it is revoked, by pages. NULL until none is left;
-- so made by a replica that did not know this column, too.
ALTER TABLE blocked_keys ADD COLUMN settled_at BIGINT;
CREATE INDEX blocked_keys_unsettled ON blocked_keys (blocked_at, key_sha256) WHERE settled_at IS NULL;
