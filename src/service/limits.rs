//! What the use cases need of limits: to charge, to tell a refusal, and to keep up with the operator's overrides.

use std::time::Duration;

use super::Services;
use super::refusal::{Refusal, ServiceError};
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;
use crate::limits::{Held, Limit, LimitError};
use crate::storage::{ActiveCap, StorageError};

impl From<LimitError> for ServiceError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Exceeded(exceeded) => Self::Refused(Refusal::RateLimited(Box::new(exceeded))),
            LimitError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// Gives back what a write was charged for that has not been done. Whether a write was done whose answer was lost nobody
/// knows: it stays charged, since no limit is exceeded whatever fails (I-9).
pub(super) async fn refund_if_not_done<T>(
    services: &Services,
    held: Held,
    outcome: &Result<T, StorageError>,
) {
    if !matches!(outcome, Err(StorageError::Unavailable(_))) {
        services.limits.refund(held).await;
    }
}

/// The cap on an account's active orders, if there is one for it.
pub(super) fn active_cap(services: &Services, account: &AccountId) -> Option<ActiveCap> {
    let most = services.limits.capacity(Limit::ActiveOrders, account.as_str());
    let now = services.now();
    let untouched_since = now.minus(services.settings.untouched_after);
    (most > 0).then_some(ActiveCap { most, now, untouched_since })
}

/// What a client that has too many active orders is told to wait at most: finishing one makes room at once.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The refusal of an order too many: it may be placed when enough of the active ones have ended by themselves, and is worth
/// another try after a minute, since most are finished long before that.
pub(super) async fn too_many_active(
    services: &Services,
    account: &AccountId,
    cap: ActiveCap,
) -> ServiceError {
    let now = services.now();
    let ends = match services.store.active_order_ends(account, now, cap.untouched_since).await {
        Ok(ends) => ends,
        Err(error) => return error.into(),
    };
    // With more active than allowed (the cap was lowered), more than one must end.
    let needed = ends.len().saturating_sub(usize::try_from(cap.most).unwrap_or(usize::MAX));
    let wait = ends.get(needed).map_or(Duration::ZERO, |end| end.since(now)).min(LONGEST_WAIT);
    LimitError::from(services.limits.exceeded(Limit::ActiveOrders, cap.most, wait)).into()
}

/// Reads the operator's overrides again if they have changed.
pub async fn refresh_overrides(services: &Services) -> Result<(), ServiceError> {
    let version = services.store.limit_overrides_version().await?;
    if services.limits.overrides_version() == Some(version) {
        return Ok(());
    }
    // Read after the version: a change in between is read again at the next look.
    let all = services.store.limit_overrides().await?;
    let known = all.into_iter().filter_map(|each| {
        let limit = Limit::parse(&each.limit);
        if limit.is_none() {
            tracing::warn!(limit = each.limit, "an override names a limit that this version does not know");
        }
        Some((limit?, each.key, each.capacity))
    });
    let known: Vec<_> = known.collect();
    tracing::info!(version, overrides = known.len(), "the overrides of limits were read");
    services.limits.override_with(version, known);
    Ok(())
}

/// How many active orders an account has, and when the first of them ends: for the operator.
pub async fn active_orders(
    store: &crate::storage::Store,
    account: &AccountId,
    now: Timestamp,
    untouched_since: Timestamp,
) -> Result<(usize, Option<Timestamp>), StorageError> {
    let ends = store.active_order_ends(account, now, untouched_since).await?;
    Ok((ends.len(), ends.first().copied()))
}
