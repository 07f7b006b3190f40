//! new-order (RFC 8555 §7.4; RFC 9773 §5).

use base64ct::{Base64UrlUnpadded, Encoding};

use super::random::fill_random;
use super::refusal::{Refusal, ServiceError};
use super::{Services, external_accounts, limits, names, renewal};
use crate::acme::account::Account;
use crate::acme::authorization::{Authorization, Outcome};
use crate::acme::certificate::{RenewalId, Serial};
use crate::acme::id::{AuthorizationId, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::message::NewOrder;
use crate::acme::order::{Order, OrderStatus, Progress};
use crate::acme::profile::{AuthorizationMode, Profile};
use crate::acme::time::Timestamp;
use crate::limits::{Held, Use};
use crate::policy::names::{challenge_types, is_proof};
use crate::storage::{IssuedCertificate, NewOrderRows, Placing};

/// A valid authorization that lasts no longer than this is not worth reusing: the order would end with it.
const REUSE_MARGIN: std::time::Duration = std::time::Duration::from_secs(3600);

/// How many random octets a token has (RFC 8555 §8.1 wants 128 bits).
const TOKEN_OCTETS: usize = 24;

/// Places an order: one read (authorizations to reuse), the charge, and one write. `directory` is the profile whose directory the
/// request came through.
pub async fn new_order(
    services: &Services,
    account: &Account,
    request: NewOrder,
    directory: Option<&str>,
) -> Result<Order, ServiceError> {
    let now = services.now().truncated();
    let profile = services.profile(request.profile.as_deref(), directory)?;
    external_accounts::check_account(account, profile)?;
    let identifiers = names::read(services, &request.identifiers, profile)?;
    // Judged as the certificate will carry them: X.509 has whole seconds.
    let (from, to) =
        (request.not_before.map(Timestamp::truncated), request.not_after.map(Timestamp::truncated));
    check_dates(services, profile, now, from, to)?;
    let (replaces, exempt) = match &request.replaces {
        Some(text) => {
            let (serial, dead, exempt) = replaced(services, account, text, &identifiers, now).await?;
            (Some((serial, dead)), exempt)
        }
        None => (None, false),
    };
    let reused = reusable(services, account, profile, &identifiers, now).await?;
    let mut expires_at = now.plus(services.settings.order_lifetime);
    let mut new = Vec::new();
    let mut authorizations = Vec::with_capacity(identifiers.len());
    for identifier in &identifiers {
        let known = reused.iter().find(|a| a.ordered_identifier() == *identifier);
        if let Some(authorization) = known {
            // The order ends with the first authorization that it rests on.
            expires_at = expires_at.min(authorization.expires_at);
            authorizations.push(authorization.into());
        } else {
            let authorization = new_authorization(services, account, profile, identifier, now)?;
            authorizations.push((&authorization).into());
            new.push(authorization);
        }
    }
    let order = Order {
        id: OrderId::new(),
        account_id: account.id.clone(),
        profile: profile.name.clone(),
        identifiers,
        not_before: request.not_before,
        not_after: request.not_after,
        replaces: request.replaces,
        exempt,
        created_at: now,
        expires_at,
        progress: Progress::Open,
        error: None,
        serial: None,
        authorizations,
    };
    let held = charge(services, &order, &new).await?;
    // ARI-04: a renewal that is due is no order of the account's own choosing.
    let cap = if exempt { None } else { limits::active_cap(services, &account.id) };
    let rows = NewOrderRows { order: order.clone(), authorizations: new, replaces, cap };
    let placing = services.store.insert_order(rows).await;
    if let Ok(Placing::Placed) = placing {
        return Ok(order);
    }
    limits::refund_if_not_done(services, held, &placing).await;
    Err(match (placing, cap) {
        (Err(error), _) => error.into(),
        (Ok(Placing::TooManyActive), Some(cap)) => limits::too_many_active(services, &account.id, cap).await,
        _ => Refusal::AlreadyReplaced.into(),
    })
}

/// Charges an order, and looks whether what must follow it would be let through as things are: validations of its `new`
/// authorizations, and a certificate for its identifiers. A look refuses early and holds nothing back: each of them takes
/// its use when it begins.
async fn charge(services: &Services, order: &Order, new: &[Authorization]) -> Result<Held, ServiceError> {
    let mut uses: Vec<Use> = Use::certificate(order).into_iter().map(Use::looked).collect();
    if !order.exempt {
        uses.push(Use::new_order(&order.account_id));
    }
    let pending = new.iter().filter(|each| each.outcome == Outcome::Pending);
    uses.extend(Use::may_fail(&order.account_id, pending.map(|each| &each.identifier)));
    Ok(services.limits.take(&uses).await?)
}

/// An authorization to be: pending, or valid at once where the profile trusts the account.
pub(super) fn new_authorization(
    services: &Services,
    account: &Account,
    profile: &Profile,
    identifier: &Identifier,
    now: Timestamp,
) -> Result<Authorization, ServiceError> {
    let trusted = profile.authorization == AuthorizationMode::Trusted;
    let challenge_types = if trusted { Vec::new() } else { challenge_types(identifier, profile) };
    let mut token = [0u8; TOKEN_OCTETS];
    fill_random(&mut token)?;
    Ok(Authorization {
        id: AuthorizationId::new(),
        account_id: account.id.clone(),
        profile: profile.name.clone(),
        identifier: identifier.base(),
        wildcard: identifier.is_wildcard(),
        outcome: if trusted { Outcome::Valid } else { Outcome::Pending },
        created_at: now,
        expires_at: now.plus(services.settings.authorization_lifetime),
        token: Base64UrlUnpadded::encode_string(&token),
        challenge_types,
        attempted: None,
        validated_at: None,
        error: None,
    })
}

/// ORD-06: dates outside policy are refused, never silently changed.
fn check_dates(
    services: &Services,
    profile: &Profile,
    now: Timestamp,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
) -> Result<(), ServiceError> {
    let refuse = |detail: String| Err(Refusal::Malformed(detail).into());
    let earliest = now.minus(profile.backdate.max(std::time::Duration::from_secs(3600)));
    let latest = now.plus(services.settings.order_lifetime);
    if let Some(from) = not_before
        && (from < earliest || from > latest)
    {
        return refuse(format!("\"notBefore\" must be between {earliest} and {latest} under this profile"));
    }
    let from = not_before.unwrap_or(now);
    let until = from.plus(profile.validity).min(services.issuer.not_after());
    if let Some(to) = not_after
        && (to <= from || to <= now || to > until)
    {
        return refuse(format!(
            "\"notAfter\" must be after {} and at most {until} under this profile",
            from.max(now)
        ));
    }
    // A certificate that ends within minutes is due at once, and is one more on the lists for nothing.
    let least = profile.shortest_lifetime.min(profile.validity);
    if not_after.is_some_and(|to| to < from.max(now).plus(least)) {
        return refuse(format!(
            "\"notAfter\" must leave the certificate at least {} seconds under this profile",
            least.as_secs()
        ));
    }
    Ok(())
}

/// Valid authorizations of the account that the order may rest on (ORD-05).
async fn reusable(
    services: &Services,
    account: &Account,
    profile: &Profile,
    identifiers: &[Identifier],
    now: Timestamp,
) -> Result<Vec<Authorization>, ServiceError> {
    if !profile.reuse_authorizations || profile.authorization == AuthorizationMode::Trusted {
        return Ok(Vec::new());
    }
    let margin = REUSE_MARGIN.min(services.settings.authorization_lifetime / 4);
    let found = services.store.valid_authorizations(&account.id, identifiers, now.plus(margin)).await?;
    Ok(found.into_iter().filter(|authorization| may_rest_on(authorization, profile)).collect())
}

/// An authorization proves nothing that was valid on trust, or by a challenge that its profile does not offer any more.
fn may_rest_on(authorization: &Authorization, profile: &Profile) -> bool {
    let by = authorization.attempted.filter(|_| authorization.validated_at.is_some());
    authorization.profile == profile.name && is_proof(by, &authorization.ordered_identifier(), profile)
}

/// The certificate that the order says it replaces (ORD-14), with the dead order that said so before, if one did, and
/// whether limits do not count its renewal.
async fn replaced(
    services: &Services,
    account: &Account,
    text: &str,
    identifiers: &[Identifier],
    now: Timestamp,
) -> Result<(Serial, Option<OrderId>, bool), ServiceError> {
    let unknown =
        || Refusal::Malformed("\"replaces\" names no certificate of this server (RFC 9773 §5)".to_owned());
    let id = RenewalId::parse(text).ok_or_else(unknown)?;
    let serial = Serial::from_bytes(&id.serial).ok_or_else(unknown)?;
    let issued = services.store.certificate(&serial).await?.ok_or_else(unknown)?;
    let exempt = renewal::is_exempt(&issued, identifiers, now, services.settings.exempt_after);
    let IssuedCertificate { certificate, replaced_by, .. } = issued;
    if crate::pki::hex(&id.authority_key_id) != certificate.issuer_id {
        return Err(unknown().into());
    }
    if certificate.account_id != account.id {
        return Err(Refusal::Unauthorized(
            "the certificate named in \"replaces\" belongs to another account",
        )
        .into());
    }
    if !certificate.identifiers.iter().any(|identifier| identifiers.contains(identifier)) {
        let detail = "the certificate named in \"replaces\" shares no identifier with the order";
        return Err(Refusal::Malformed(detail.to_owned()).into());
    }
    if let Some(other) = &replaced_by {
        let stands = match services.store.order(other).await? {
            Some(order) => order.status(now) != OrderStatus::Invalid,
            // Its order is past its retention; what it issued is on record for longer.
            None => services.store.reservation(other).await?.is_some_and(|issued| issued.der.is_some()),
        };
        if stands {
            return Err(Refusal::AlreadyReplaced.into());
        }
    }
    Ok((serial, replaced_by, exempt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::challenge::ChallengeType;

    #[test]
    fn ord_05_trust_of_yesterday_is_no_proof_today() {
        let profile = Profile {
            name: "p".into(),
            description: String::new(),
            authorization: AuthorizationMode::Challenge,
            validity: std::time::Duration::from_secs(1),
            shortest_lifetime: std::time::Duration::ZERO,
            backdate: std::time::Duration::ZERO,
            key_types: Vec::new(),
            client_auth: false,
            policy_oid: None,
            common_name: false,
            allowed_names: Vec::new(),
            denied_names: Vec::new(),
            wildcards: false,
            ip_addresses: false,
            single_label_names: false,
            onion_names: false,
            challenge_types: ChallengeType::ALL.to_vec(),
            reuse_authorizations: true,
            external_account_required: false,
        };
        let proven = Authorization {
            id: AuthorizationId::new(),
            account_id: crate::acme::id::AccountId::new(),
            profile: "p".into(),
            identifier: Identifier::Dns("a.test".into()),
            wildcard: false,
            outcome: Outcome::Valid,
            created_at: Timestamp::from_seconds(0),
            expires_at: Timestamp::from_seconds(9),
            token: String::new(),
            challenge_types: ChallengeType::ALL.to_vec(),
            attempted: Some(ChallengeType::Dns01),
            validated_at: Some(Timestamp::from_seconds(1)),
            error: None,
        };
        assert!(may_rest_on(&proven, &profile));
        let elsewhere = Profile { challenge_types: vec![ChallengeType::Http01], ..profile.clone() };
        assert!(!may_rest_on(&proven, &elsewhere), "dns-01 is not offered any more");
        let trusted = Authorization { attempted: None, validated_at: None, ..proven.clone() };
        assert!(!may_rest_on(&trusted, &profile));
        assert!(!may_rest_on(&Authorization { profile: "q".into(), ..proven }, &profile));
    }
}
