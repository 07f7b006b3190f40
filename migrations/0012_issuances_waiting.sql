-- Issuances that wait for a replica, by account, as validations do.
CREATE INDEX orders_waiting ON orders (account_id, lease_until) WHERE progress = 'processing' AND lease_until IS NOT NULL;
