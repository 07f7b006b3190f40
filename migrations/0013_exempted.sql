-- When an order that replaces a certificate was last exempt from limits for that: it is, once for each certificate
-- (RFC 9773, src/service/renewal.rs). NULL: never, or by a replica that did not know this column.
ALTER TABLE certificates ADD COLUMN exempted_at BIGINT;
