-- Limits (design I-9, I-10). Expand only: replicas that do not know these columns and tables go on as before.

-- 1 for an order that renews a certificate when it is due (RFC 9773): it is not counted among the active ones.
ALTER TABLE orders ADD COLUMN exempt BIGINT NOT NULL DEFAULT 0;

-- The orders that an account may still finish. An order leaves it when it is issued or fails; one that has expired is
-- passed over by the range on expires_at, whether anything has swept it or not.
CREATE INDEX orders_active ON orders (account_id, expires_at)
  WHERE progress IN ('open', 'processing') AND exempt = 0;

-- Capacities that the operator gave to single keys (`chancery limits override`).
CREATE TABLE limit_overrides (
  limit_name TEXT NOT NULL,
  limit_key TEXT NOT NULL,
  capacity BIGINT NOT NULL CHECK (capacity >= 0),
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (limit_name, limit_key)
);

-- One row, which every change of an override counts up: what replicas look at every other second.
CREATE TABLE limit_overrides_version (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  version BIGINT NOT NULL
);
INSERT INTO limit_overrides_version (id, version) VALUES (1, 0);
