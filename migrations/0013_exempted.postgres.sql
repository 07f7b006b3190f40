-- As the function of three parameters (0002), which replicas of the version before go on calling; both take the same lock. Orders
-- that were placed at `untouched_since` or before do not count as long as none of their authorizations was responded to for
-- them. What is counted ends at `most`, the latest first: those are the most likely to count.
CREATE FUNCTION chancery_active_orders(account TEXT, at_time BIGINT, most BIGINT, untouched_since BIGINT)
RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  active BIGINT;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(account, 7130910));
  SELECT COUNT(*) INTO active FROM orders o WHERE o.account_id = account
    AND o.progress IN ('open', 'processing') AND o.exempt = 0 AND o.expires_at > at_time;
  IF active < most THEN
    RETURN active;
  END IF;
  SELECT COUNT(*) INTO active FROM (SELECT 1 FROM orders o WHERE o.account_id = account
    AND o.progress IN ('open', 'processing') AND o.exempt = 0 AND o.expires_at > at_time
    AND (o.progress = 'processing' OR (
      (o.created_at > untouched_since OR EXISTS (SELECT 1 FROM order_authorizations l
        JOIN authorizations z ON z.id = l.authorization_id
        WHERE l.order_id = o.id AND z.attempted IS NOT NULL AND (z.validated_at IS NULL OR z.validated_at >= o.created_at)))
      AND NOT EXISTS (SELECT 1 FROM order_authorizations l
        JOIN authorizations z ON z.id = l.authorization_id
        WHERE l.order_id = o.id AND (z.outcome NOT IN ('pending', 'valid') OR z.expires_at <= at_time))))
    ORDER BY o.expires_at DESC LIMIT most) counted;
  RETURN active;
END
$$;
