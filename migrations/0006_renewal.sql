-- When an operator asked for a certificate to be renewed before its time (RFC 9773 §4.2).
ALTER TABLE certificates ADD COLUMN renewal_asked_at BIGINT;
