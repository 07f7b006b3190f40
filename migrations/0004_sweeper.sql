-- One leader sweeps for the fleet (design I-12), and every replica says that it is there.

-- One row. Whoever takes the lease raises the epoch, and every sweep statement names both: of a replica that slept
-- through its lease, no statement changes anything.
CREATE TABLE leader (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  holder TEXT,
  epoch BIGINT NOT NULL,
  lease_until BIGINT NOT NULL
);
INSERT INTO leader (id, holder, epoch, lease_until) VALUES (1, NULL, 0, 0);

CREATE TABLE replicas (
  id TEXT PRIMARY KEY,
  version TEXT NOT NULL,
  listen TEXT NOT NULL,
  ops_listen TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL
);
CREATE INDEX replicas_seen ON replicas (seen_at, id);

-- Each sweep walks one of these from its oldest end, a page at a time. An order is in exactly one of the two.
CREATE INDEX orders_unfinished ON orders (expires_at, id) WHERE progress IN ('open', 'processing');
CREATE INDEX orders_finished ON orders (expires_at, id) WHERE progress IN ('valid', 'invalid');
CREATE INDEX authorizations_expiry ON authorizations (expires_at, id);
CREATE INDEX authorizations_leased ON authorizations (expires_at, id)
  WHERE outcome = 'pending' AND lease_until IS NOT NULL;
CREATE INDEX certificates_expiry ON certificates (not_after, serial);

-- Whether any order still rests on an authorization.
CREATE INDEX order_authorizations_of ON order_authorizations (authorization_id);
