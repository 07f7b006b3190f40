-- When a revocation's reason was raised to keyCompromise (RFC 5280 §5.3.1; CRT-05): the list that has the first reason is old.
ALTER TABLE certificates ADD COLUMN reason_raised_at BIGINT;
CREATE INDEX certificates_raised ON certificates (issuer_id, reason_raised_at) WHERE reason_raised_at IS NOT NULL;

-- What is left to revoke of a compromised key.
CREATE INDEX certificates_of_key ON certificates (key_sha256, not_after)
  WHERE revocation_reason IS NULL OR revocation_reason <> 1;
-- Keys that an account itself called compromised.
CREATE INDEX certificates_compromised ON certificates (key_sha256, account_id) WHERE revocation_reason = 1;
