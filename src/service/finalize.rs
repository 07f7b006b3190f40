//! finalize, and the issuance job that it makes (RFC 8555 §7.4; design I-4): begin and reserve, sign, record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::lease::{Held, settled};
use super::random::fill_random;
use super::refusal::{Refusal, ServiceError};
use super::validate::MAX_CLAIMS;
use super::{Services, blocked_keys, caa, fault, issuable, limits};
use crate::acme::account::{Account, AccountStatus};
use crate::acme::certificate::{Content, Serial};
use crate::acme::id::{LeaseToken, OrderId};
use crate::acme::identifier::Identifier;
use crate::acme::message::Finalize;
use crate::acme::order::{Order, OrderStatus, Progress};
use crate::acme::problem::{Problem, ProblemType};
use crate::acme::profile::{AuthorizationMode, Profile};
use crate::acme::time::Timestamp;
use crate::limits::Use;
use crate::pki::csr::Csr;
use crate::pki::template::Template;
use crate::storage::{IssuanceJob, Reservation, StorageError};

/// How many of the names that do not fit are told.
const MOST_NAMES_TOLD: usize = 10;

/// How long the request waits for its certificate before it answers `processing`.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes a ready order into issuance and answers it as it is afterwards: usually `valid` (ORD-09, ORD-12).
pub async fn finalize(
    services: &Arc<Services>,
    account: &Account,
    mut order: Order,
    request: Finalize,
) -> Result<Order, ServiceError> {
    let now = services.now();
    let status = order.status(now);
    if status != OrderStatus::Ready {
        return Err(Refusal::OrderNotReady(status).into());
    }
    let profile = match issuable::profile_of(services, &order) {
        Ok(profile) => profile,
        Err(problem) => return end(services, order, problem, now).await,
    };
    issuable::check(services, account, &order, profile)?;
    let csr = Csr::parse(&request.csr, &profile.key_types).map_err(Refusal::Csr)?;
    check_names(&csr, &order.identifiers)?;
    if csr.key_thumbprint == account.key_thumbprint {
        return Err(Refusal::CsrAccountKey.into());
    }
    if let Err(error) = csr.check_listed(&services.weak_keys) {
        return Err(Refusal::Csr(error).into());
    }
    let account_key = blocked_keys::account_key_sha256(account)?;
    let reservation = reserve(services, profile, &order, csr, now)?;
    let lease = LeaseToken::new();
    let until = now.plus(services.settings.lease);
    // Charged here and not with the order, so that nobody can use up the set of another without being authorized for it.
    let held = services.limits.take(Use::certificate(&order).as_slice()).await?;
    let begun = services
        .store
        .begin_issuance(reservation.clone(), &account.id, &account_key, &lease, now, until)
        .await;
    if !matches!(begun, Ok(true)) {
        limits::refund_if_not_done(services, held, &begun).await;
        begun?;
        return Err(not_begun(services, &reservation, &account_key).await?.into());
    }
    fault::point("issuance-begun");
    order.progress = Progress::Processing;
    order.serial = Some(reservation.serial);
    let job = IssuanceJob { order_id: order.id.clone(), lease, claims: 1 };
    let (done, finished) = tokio::sync::oneshot::channel();
    let task = {
        let (services, order) = (Arc::clone(services), order.clone());
        async move {
            let _ = done.send(issue(&services, &job, &order, &reservation).await);
        }
    };
    services.jobs.spawn("issuance", task);
    match tokio::time::timeout(PATIENCE, finished).await {
        Ok(Ok(Issuance::Recorded)) => {
            order.progress = Progress::Valid;
            Ok(order)
        }
        Ok(Ok(Issuance::Failed(problem))) => {
            order.progress = Progress::Invalid;
            order.error = Some(problem);
            Ok(order)
        }
        // The job goes on, here or in another replica; the client polls.
        Ok(Ok(Issuance::Elsewhere) | Err(_)) | Err(_) => Ok(order),
    }
}

/// Ends an order that is not finalized yet, and answers it as it is then.
async fn end(
    services: &Services,
    mut order: Order,
    problem: Problem,
    now: Timestamp,
) -> Result<Order, ServiceError> {
    if !services.store.end_order(&order, &problem, now).await? {
        return Err(changed_meanwhile(services, &order.id).await?.into());
    }
    tracing::warn!(order = %order.id, %problem, "an order is over");
    order.progress = Progress::Invalid;
    order.error = Some(problem);
    Ok(order)
}

/// ORD-10: CN ∪ SAN = the order's identifiers, exactly.
fn check_names(csr: &Csr, identifiers: &[Identifier]) -> Result<(), Refusal> {
    let ordered: BTreeSet<&Identifier> = identifiers.iter().collect();
    let asked: BTreeSet<&Identifier> = csr.names.iter().collect();
    if ordered == asked {
        return Ok(());
    }
    let list = |names: Vec<&&Identifier>| match names.split_at_checked(MOST_NAMES_TOLD) {
        Some((told, rest)) if !rest.is_empty() => format!("{} and {} more", joined(told), rest.len()),
        _ => joined(&names),
    };
    let missing = list(ordered.difference(&asked).collect());
    let extra = list(asked.difference(&ordered).collect());
    Err(Refusal::CsrNames(match (missing.is_empty(), extra.is_empty()) {
        (false, true) => format!("it lacks {missing}"),
        (true, _) => format!("it also has {extra}"),
        _ => format!("it lacks {missing}, and has {extra}"),
    }))
}

fn joined(names: &[&&Identifier]) -> String {
    names.iter().map(|name| name.value()).collect::<Vec<_>>().join(", ")
}

/// Everything that will be signed, decided once (I-4).
fn reserve(
    services: &Services,
    profile: &Profile,
    order: &Order,
    csr: Csr,
    now: Timestamp,
) -> Result<Reservation, ServiceError> {
    let mut random = [0u8; 16];
    fill_random(&mut random)?;
    // ORD-06: the certificate carries the seconds of the dates that the order shows.
    let asked_end = order.not_after.map(Timestamp::truncated);
    // A certificate that is to end late begins late: it is never valid longer than its profile says.
    let earliest = now.minus(profile.backdate);
    let beginning = || asked_end.map_or(earliest, |to| earliest.max(to.minus(profile.validity)));
    let not_before = order.not_before.unwrap_or_else(beginning).truncated();
    let not_after = asked_end.unwrap_or_else(|| {
        let last = Duration::from_secs(1);
        not_before.plus(profile.validity).minus(last).min(services.issuer.not_after())
    });
    // Time has passed since the order was placed: what it asks for may no longer be possible. The order stays ready.
    if not_after <= now || not_after <= not_before {
        let detail =
            format!("the certificate would end at {not_after}, which is too early; place a new order");
        return Err(Refusal::Malformed(detail).into());
    }
    let issuer_id = services.issuer.id().to_owned();
    let content = content_of_today(services, profile, &order.identifiers, &issuer_id);
    Ok(Reservation {
        serial: Serial::from_random(random),
        order_id: order.id.clone(),
        account_id: order.account_id.clone(),
        profile: order.profile.clone(),
        issuer_id,
        identifiers: order.identifiers.clone(),
        key_sha256: csr.key_sha256,
        public_key: csr.public_key,
        not_before,
        not_after: not_after.truncated(),
        content: Some(content),
        der: None,
        issued_at: None,
        revocation: None,
    })
}

/// Why the compare-and-set found the order in another state than was read.
async fn not_begun(
    services: &Services,
    reservation: &Reservation,
    account_key: &str,
) -> Result<Refusal, ServiceError> {
    if let Some(refusal) = not_allowed(services, reservation).await? {
        return Ok(refusal);
    }
    if services.store.key_is_blocked(account_key).await? {
        return Ok(Refusal::AccountKeyCompromised);
    }
    changed_meanwhile(services, &reservation.order_id).await
}

/// What to say of an order that was ready when it was read, and is not any more.
async fn changed_meanwhile(services: &Services, order: &OrderId) -> Result<Refusal, ServiceError> {
    let fresh = services.store.order(order).await?;
    let status = fresh.map_or(OrderStatus::Invalid, |order| order.status(services.now()));
    Ok(Refusal::OrderNotReady(if status == OrderStatus::Ready { OrderStatus::Processing } else { status }))
}

/// Why the account may not have the certificate, whatever becomes of the order: as the statements that begin and finish an
/// issuance have it.
async fn not_allowed(
    services: &Services,
    reservation: &Reservation,
) -> Result<Option<Refusal>, StorageError> {
    let account = services.store.account(&reservation.account_id).await?;
    if account.is_none_or(|account| account.status != AccountStatus::Valid) {
        return Ok(Some(Refusal::Unauthorized("the account was deactivated")));
    }
    let free = services.store.key_is_free(&reservation.key_sha256, &reservation.account_id).await?;
    Ok(Some(Refusal::CsrBlockedKey).filter(|_| !free))
}

/// How an issuance job ended.
enum Issuance {
    /// The certificate is on record.
    Recorded,
    /// There will be none.
    Failed(Problem),
    /// The lease was lost or handed back.
    Elsewhere,
}

/// Takes an issuance job over from a replica that lost it.
pub async fn resume(services: Arc<Services>, job: IssuanceJob) {
    let found = async {
        let order = services.store.order(&job.order_id).await?;
        let reservation = services.store.reservation(&job.order_id).await?;
        let Some((order, reservation)) = order.zip(reservation) else { return Ok(None) };
        let account = services.store.account(&order.account_id).await?;
        Ok::<_, StorageError>(account.map(|account| (account, order, reservation)))
    };
    match found.await {
        Ok(Some((account, order, reservation))) => {
            tracing::info!(order = %job.order_id, claims = job.claims, "an issuance was taken over");
            match issuable::check_begun(&services, &account, &order) {
                Ok(()) => issue(&services, &job, &order, &reservation).await,
                Err(problem) => fail(&services, &job, &order, &reservation, problem).await,
            };
        }
        Ok(None) => {
            tracing::error!(order = %job.order_id, "a processing order has no reservation or no account");
            let problem = Problem::new(ProblemType::ServerInternal, "the certificate could not be issued");
            while settled(services.store.fail_issuance(&job, None, &problem).await).await.is_none() {}
        }
        Err(error) => tracing::warn!(order = %job.order_id, %error, "an issuance could not be taken over"),
    }
}

async fn issue(services: &Services, job: &IssuanceJob, order: &Order, reservation: &Reservation) -> Issuance {
    let held = Held::Issuance(job);
    let turns = services.jobs.issuances();
    let Some(_turn) = held.first_turn(services, turns, &order.account_id).await else {
        return Issuance::Elsewhere;
    };
    tokio::select! {
        biased;
        issuance = work(services, job, order, reservation) => issuance,
        () = held.keep(services) => Issuance::Elsewhere,
        () = services.jobs.stopping() => {
            held.hand_back(services).await;
            Issuance::Elsewhere
        }
    }
}

async fn work(services: &Services, job: &IssuanceJob, order: &Order, reservation: &Reservation) -> Issuance {
    let started = std::time::Instant::now();
    let signed = match sign(services, job, order, reservation).await {
        Ok(der) => der,
        Err(problem) => return fail(services, job, order, reservation, problem).await,
    };
    fault::point("issuance-signed");
    let recorded = loop {
        let finished = services.store.finish_issuance(job, reservation, signed.clone(), services.now()).await;
        if let Some(recorded) = settled(finished).await {
            break recorded;
        }
    };
    if !recorded {
        return match not_allowed(services, reservation).await {
            Ok(Some(refusal)) => fail(services, job, order, reservation, issuable::ended(refusal)).await,
            Ok(None) => Issuance::Elsewhere,
            // The lease runs out, and whoever takes the job then finds the same.
            Err(error) => {
                tracing::warn!(order = %job.order_id, %error, "it is not known why a certificate was not recorded");
                Issuance::Elsewhere
            }
        };
    }
    fault::point("issuance-recorded");
    metrics::counter!("chancery_issuances_total", "result" => "issued").increment(1);
    metrics::histogram!("chancery_issuance_seconds").record(started.elapsed());
    tracing::info!(order = %job.order_id, serial = %reservation.serial, profile = %reservation.profile, "issued");
    Issuance::Recorded
}

/// Ends an order without a certificate.
async fn fail(
    services: &Services,
    job: &IssuanceJob,
    order: &Order,
    reservation: &Reservation,
    problem: Problem,
) -> Issuance {
    tracing::warn!(order = %job.order_id, %problem, "issuance failed");
    metrics::counter!("chancery_issuances_total", "result" => "failed").increment(1);
    let recorded = loop {
        if let Some(recorded) =
            settled(services.store.fail_issuance(job, Some(reservation), &problem).await).await
        {
            break recorded;
        }
    };
    if !recorded {
        // Whoever has the lease now may yet succeed: nothing is said that is not on record (I-6).
        return Issuance::Elsewhere;
    }
    // Only what was taken: an order that is not counted would make a gift of it.
    if let Some(taken) = Use::certificate(order) {
        services.limits.give_back(&taken).await;
    }
    Issuance::Failed(problem)
}

/// Signs what is on record. Taking a job over signs the same serial and content again (I-4).
async fn sign(
    services: &Services,
    job: &IssuanceJob,
    order: &Order,
    reservation: &Reservation,
) -> Result<Vec<u8>, Problem> {
    let internal = |detail: &str| Problem::new(ProblemType::ServerInternal, detail);
    if job.claims > MAX_CLAIMS {
        return Err(internal("the certificate could not be issued"));
    }
    let profile = issuable::profile_of(services, order)?;
    if profile.authorization == AuthorizationMode::Challenge {
        caa::check_again(services, order).await?;
    }
    let issuer = services.issuer_named(&reservation.issuer_id);
    let issuer = issuer
        .ok_or_else(|| internal("the issuer that the order was begun with is gone; place a new order"))?;
    let template = template(services, profile, reservation);
    let started = std::time::Instant::now();
    let signed = issuer.issue(&template).await;
    metrics::histogram!("chancery_signature_seconds").record(started.elapsed());
    signed.map_err(|error| {
        tracing::error!(order = %order.id, %error, "the issuer refused");
        internal("the certificate could not be issued")
    })
}

/// What a certificate says beside its names, key and times, as the configuration is now.
fn content_of_today(
    services: &Services,
    profile: &Profile,
    identifiers: &[Identifier],
    issuer_id: &str,
) -> Content {
    let first_name = identifiers.iter().find_map(|identifier| match identifier {
        Identifier::Dns(name) if name.len() <= 64 => Some(name.clone()),
        _ => None,
    });
    Content {
        common_name: first_name.filter(|_| profile.common_name),
        client_auth: profile.client_auth,
        policy_oid: profile.policy_oid.clone(),
        crl_url: services.urls.crl(issuer_id),
        issuer_url: services.urls.issuer(issuer_id),
    }
}

fn template(services: &Services, profile: &Profile, reservation: &Reservation) -> Template {
    let content = reservation.content.clone();
    let content = content.unwrap_or_else(|| {
        content_of_today(services, profile, &reservation.identifiers, &reservation.issuer_id)
    });
    Template {
        serial: reservation.serial,
        identifiers: reservation.identifiers.clone(),
        common_name: content.common_name,
        not_before: reservation.not_before,
        not_after: reservation.not_after,
        public_key: reservation.public_key.clone(),
        client_auth: content.client_auth,
        crl_url: Some(content.crl_url),
        issuer_url: Some(content.issuer_url),
        policy_oid: content.policy_oid,
    }
}
