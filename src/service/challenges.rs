//! Responding to a challenge (RFC 8555 §7.5.1): the answer is durable before it is given, and work starts at once.

use std::sync::Arc;

use super::refusal::{Refusal, ServiceError};
use super::{Services, fault, limits, validate};
use crate::acme::account::Account;
use crate::acme::authorization::{Authorization, AuthorizationStatus};
use crate::acme::challenge::ChallengeType;
use crate::acme::id::LeaseToken;
use crate::limits::{Limit, Use};
use crate::storage::ValidationJob;

/// Starts validation, once, whatever repeats (AUT-06). Answers the authorization as it is afterwards.
pub async fn respond(
    services: &Arc<Services>,
    account: &Account,
    mut authorization: Authorization,
    kind: ChallengeType,
) -> Result<Authorization, ServiceError> {
    let now = services.now();
    let counted = Use::response(&authorization.id, kind);
    match authorization.status(now) {
        AuthorizationStatus::Pending if authorization.attempted.is_none() => {}
        // A repeat changes nothing: cert-manager and lego do this after a restart. It counts, so that a loop ends.
        AuthorizationStatus::Pending | AuthorizationStatus::Valid | AuthorizationStatus::Invalid => {
            let _charged = services.limits.take(&[counted]).await?;
            return Ok(authorization);
        }
        over => {
            let detail = format!("the authorization is {}; place a new order", over.as_str());
            return Err(Refusal::Malformed(detail).into());
        }
    }
    // Taken before it can fail, so that of any number of responses at once no more fail than may (I-9).
    let failure = Use::failed_validation(&account.id, &authorization.identifier);
    let held = services.limits.take(&[counted, failure, Use::validation(&account.id)]).await?;
    let mut job = ValidationJob {
        authorization: authorization.clone(),
        key_thumbprint: account.key_thumbprint.clone(),
        lease: LeaseToken::new(),
        claims: 1,
        charged: services.limits.taken_from(&held, Limit::FailedValidations).map(str::to_owned),
    };
    let until = now.plus(services.settings.lease);
    let begun = services.store.begin_validation(&job, kind, now, until).await;
    if let Ok(true) = begun {
        fault::point("validation-accepted");
        authorization.attempted = Some(kind);
        job.authorization.attempted = Some(kind);
        services.jobs.spawn("validation", validate::run(Arc::clone(services), job));
        return Ok(authorization);
    }
    if begun.is_err() {
        limits::refund_if_not_done(services, held, &begun).await;
        begun?;
    } else {
        // Another replica took a response at the same moment, or the authorization ended: this one counts as a repeat.
        services.limits.refund(held.except(Limit::ChallengeResponses)).await;
    }
    let fresh = services.store.account_and_authorization(&account.id, &authorization.id).await?;
    fresh.and_then(|(_, authorization)| authorization).ok_or_else(|| Refusal::NotFound("challenge").into())
}
