-- How many active orders an account has, and nobody adds one before this transaction ends (design I-10): a lock of that
-- account alone, and then the count. In one statement they would not do: its snapshot is taken before the lock is had, so
-- two orders at once would both count without the other. Each statement of a volatile function has a snapshot of its own,
-- so placing an order stays one round trip (src/storage/orders.rs).
-- With fewer than `most` that could be active, nobody asks which of them wait for an authorization that has failed.
CREATE FUNCTION chancery_active_orders(account TEXT, at_time BIGINT, most BIGINT) RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  active BIGINT;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(account, 7130910));
  SELECT COUNT(*) INTO active FROM orders o WHERE o.account_id = account
    AND o.progress IN ('open', 'processing') AND o.exempt = 0 AND o.expires_at > at_time;
  IF active < most THEN
    RETURN active;
  END IF;
  SELECT COUNT(*) INTO active FROM orders o WHERE o.account_id = account
    AND o.progress IN ('open', 'processing') AND o.exempt = 0 AND o.expires_at > at_time
    AND (o.progress = 'processing' OR NOT EXISTS (SELECT 1 FROM order_authorizations l
      JOIN authorizations z ON z.id = l.authorization_id
      WHERE l.order_id = o.id AND (z.outcome NOT IN ('pending', 'valid') OR z.expires_at <= at_time)));
  RETURN active;
END
$$;
