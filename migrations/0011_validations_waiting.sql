-- Validations that wait for a replica, by challenge type and account (I-3): accounts take turns, and to find the next one, or its
-- oldest job, costs the same however many jobs another one has.
CREATE INDEX authorizations_waiting ON authorizations (attempted, account_id, lease_until)
  WHERE outcome = 'pending' AND lease_until IS NOT NULL;
