-- The audit trail: a row for each change of state, written in the change's own transaction (src/storage/audit.rs). Rows
-- are only ever added, at the end of every index but those by resource; nothing here is locked by two writers, and there
-- is no sequence. The replica chooses the id.

CREATE TABLE audit_events (
  id TEXT PRIMARY KEY,
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  account_id TEXT,
  order_id TEXT,
  authorization_id TEXT,
  serial TEXT,
  request_id TEXT,
  client_address TEXT,
  detail TEXT NOT NULL
);

-- Retention: deleted from the oldest end.
CREATE INDEX audit_events_at ON audit_events (at, id);
-- What `chancery audit` reads by.
CREATE INDEX audit_events_account ON audit_events (account_id, at) WHERE account_id IS NOT NULL;
CREATE INDEX audit_events_order ON audit_events (order_id, at) WHERE order_id IS NOT NULL;
CREATE INDEX audit_events_authorization ON audit_events (authorization_id, at) WHERE authorization_id IS NOT NULL;
CREATE INDEX audit_events_serial ON audit_events (serial, at) WHERE serial IS NOT NULL;
