//! new-authz and deactivation of authorizations (RFC 8555 §7.4.1, §7.5.2).

use super::refusal::{Refusal, ServiceError};
use super::{Services, external_accounts, limits, names, orders};
use crate::acme::account::Account;
use crate::acme::authorization::{Authorization, AuthorizationStatus, Outcome};
use crate::acme::message::{AuthorizationUpdate, NewAuthorization};
use crate::limits::Use;

/// Pre-authorization for one identifier (AUT-04). It writes what an order would, and is charged as one.
pub async fn new_authorization(
    services: &Services,
    account: &Account,
    request: NewAuthorization,
    directory: Option<&str>,
) -> Result<Authorization, ServiceError> {
    if !services.settings.pre_authorization {
        return Err(Refusal::Unauthorized("pre-authorization is off here; place an order instead").into());
    }
    let now = services.now().truncated();
    let profile = services.profile(None, directory)?;
    external_accounts::check_account(account, profile)?;
    let identifiers = names::read(services, std::slice::from_ref(&request.identifier), profile)?;
    let [identifier] = identifiers.as_slice() else {
        return Err(ServiceError::Internal("one identifier was read as several".to_owned()));
    };
    if identifier.is_wildcard() {
        let detail = "pre-authorization is for names without a wildcard (RFC 8555 §7.4.1)";
        return Err(Refusal::Malformed(detail.to_owned()).into());
    }
    let authorization = orders::new_authorization(services, account, profile, identifier, now)?;
    let mut uses = vec![Use::new_order(&account.id)];
    if authorization.outcome == Outcome::Pending {
        // Only a look: the response to a challenge takes the use.
        uses.extend(Use::may_fail(&account.id, [identifier]));
    }
    let held = services.limits.take(&uses).await?;
    let inserted = services.store.insert_authorization(&authorization).await;
    if inserted.is_err() {
        limits::refund_if_not_done(services, held, &inserted).await;
    }
    inserted?;
    Ok(authorization)
}

/// Gives an authorization up (AUT-03). Answers it as it is afterwards.
pub async fn update(
    services: &Services,
    mut authorization: Authorization,
    request: AuthorizationUpdate,
) -> Result<Authorization, ServiceError> {
    match request.status.as_deref() {
        None => return Ok(authorization),
        Some("deactivated") => {}
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            let detail =
                format!("an authorization's status can be set to \"deactivated\" only, not to {shown:?}");
            return Err(Refusal::Malformed(detail).into());
        }
    }
    let now = services.now();
    if matches!(authorization.status(now), AuthorizationStatus::Pending | AuthorizationStatus::Valid) {
        let account = &authorization.account_id;
        let held = services.limits.take(&[Use::deactivation(account)]).await?;
        let done = services.store.deactivate_authorization(&authorization.id, account, now).await;
        if !matches!(done, Ok(true)) {
            limits::refund_if_not_done(services, held, &done).await;
        }
        if done? {
            authorization.outcome = Outcome::Deactivated;
            return Ok(authorization);
        }
        // Another request was faster, or a validation's end.
        let fresh = services.store.account_and_authorization(account, &authorization.id).await?;
        authorization = fresh.and_then(|(_, fresh)| fresh).ok_or(Refusal::NotFound("authorization"))?;
    }
    let status = authorization.status(now);
    if status == AuthorizationStatus::Deactivated {
        return Ok(authorization);
    }
    let status = status.as_str();
    Err(Refusal::Malformed(format!("the authorization is {status} and cannot be deactivated")).into())
}
