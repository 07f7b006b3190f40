//! Certificate revocation lists: renewed by schedule, and at once after a revocation (CRT-06). The newest ones are kept
//! in memory, and whoever asks is given the same octets: no request for a list reads the store.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use super::refusal::ServiceError;
use super::{DEFAULT_PROFILE, Services};
use crate::acme::certificate::{Revocation, RevocationReason, Serial};
use crate::acme::time::Timestamp;
use crate::pki::crl::{CrlTemplate, RevokedEntry, listed};
use crate::pki::issuer::Issuer;
use crate::storage::{Crl, Edition};

/// Revocations may be stamped by replicas whose clocks differ by a little: looking back this far misses none.
const OVERLAP: Duration = Duration::from_secs(5);

/// Two lists of an issuer are made at least this far apart: `Last-Modified` and thisUpdate tell seconds.
const APART: Duration = Duration::from_secs(1);

/// The newest list of each issuer that this replica knows of.
#[derive(Default)]
pub struct Lists {
    newest: RwLock<BTreeMap<String, Arc<List>>>,
    /// Held from the look at the store to the change here, so that an older list never takes a newer one's place.
    changing: tokio::sync::Mutex<()>,
}

/// A serial, and why it was revoked.
type Revoked = (Serial, RevocationReason);

/// A signed list.
pub struct List {
    /// Which one it is.
    pub edition: Edition,
    /// The list in DER.
    pub der: Bytes,
    /// Of what was revoked shortly before it was made, what is known to be on it.
    recent: Mutex<HashSet<Revoked>>,
}

impl List {
    fn new(crl: Crl, recent: HashSet<Revoked>) -> Arc<Self> {
        Arc::new(Self { edition: crl.edition(), der: crl.der.into(), recent: Mutex::new(recent) })
    }

    /// When its content was read.
    pub const fn made_at(&self) -> Timestamp {
        self.edition.1
    }

    /// Whether all of these are on the list. It is read only where that is not known yet, on a thread of its own.
    async fn has_all(self: &Arc<Self>, revoked: HashSet<Revoked>) -> bool {
        if revoked.is_subset(&self.recent.lock().unwrap_or_else(PoisonError::into_inner)) {
            return true;
        }
        let list = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let found = listed(&list.der, &revoked);
            let all = found.len() == revoked.len();
            *list.recent.lock().unwrap_or_else(PoisonError::into_inner) = found;
            all
        });
        read.await.unwrap_or(false)
    }
}

impl Lists {
    /// The newest list of an issuer, if there is one.
    pub fn newest(&self, issuer_id: &str) -> Option<Arc<List>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).get(issuer_id).cloned()
    }

    fn put(&self, issuer_id: &str, list: Arc<List>) {
        self.newest.write().unwrap_or_else(PoisonError::into_inner).insert(issuer_id.to_owned(), list);
    }
}

/// Brings the lists in memory up to the store's. Where none has changed, this reads their numbers alone.
pub async fn refresh(services: &Services) -> Result<(), ServiceError> {
    let lists = &services.crls;
    let _changing = lists.changing.lock().await;
    for issuer_id in services.issuers().map(|issuer| issuer.id()) {
        let known = lists.newest(issuer_id).map(|list| list.edition);
        let edition = services.store.crl_edition(issuer_id).await?;
        if edition != known
            && let Some(crl) = services.store.crl(issuer_id).await?
        {
            lists.put(issuer_id, List::new(crl, HashSet::new()));
        }
    }
    Ok(())
}

/// Publishes a new list of each issuer for which one is due: there is none, the last one is old, or something was
/// revoked since. Any replica may do this at any time; the number decides who was first.
pub async fn renew_if_due(services: &Services) -> Result<(), ServiceError> {
    for issuer in services.issuers() {
        loop {
            refresh(services).await?;
            let last = services.crls.newest(issuer.id());
            if let Some(last) = &last
                && is_fresh(services, issuer.id(), last).await?
            {
                break;
            }
            publish(services, issuer, last.map(|last| last.edition)).await?;
        }
    }
    Ok(())
}

/// Whether a list has everything, and is not old.
async fn is_fresh(services: &Services, issuer_id: &str, last: &Arc<List>) -> Result<bool, ServiceError> {
    if services.now().since(last.made_at()) >= services.settings.crl_interval {
        return Ok(false);
    }
    // What was stamped shortly before the list was made is looked for in the list itself.
    let (since, ended) =
        (last.made_at().minus(OVERLAP), services.now().minus(services.settings.crl_lifetime));
    let recent = services.store.revoked_since(issuer_id, since, ended).await?;
    Ok(last.has_all(recent.into_iter().collect()).await)
}

/// Signs and publishes the list after the `previous` one. If another replica was faster, its list counts.
async fn publish(
    services: &Services,
    issuer: &Arc<dyn Issuer>,
    previous: Option<Edition>,
) -> Result<(), ServiceError> {
    let earliest = previous.map(|(_, made_at)| made_at.plus(APART));
    tokio::time::sleep(earliest.map_or(Duration::ZERO, |at| at.since(services.now()).min(APART))).await;
    let number = previous.map(|(number, _)| number);
    let (next, recent) = sign(services, issuer, number.unwrap_or(0) + 1).await?;
    let _changing = services.crls.changing.lock().await;
    if services.store.publish_crl(issuer.id(), number, &next).await? {
        metrics::counter!("chancery_crls_published_total").increment(1);
        services.crls.put(issuer.id(), List::new(next, recent));
    }
    Ok(())
}

/// A new list, and what was revoked shortly before it was made.
async fn sign(
    services: &Services,
    issuer: &Arc<dyn Issuer>,
    number: i64,
) -> Result<(Crl, HashSet<Revoked>), ServiceError> {
    let made_at = services.now().truncated();
    // Dated back as leaves are: peers whose clocks are a little slow would hold it to be of the future.
    let backdate = services.profiles.get(DEFAULT_PROFILE).map_or(Duration::ZERO, |profile| profile.backdate);
    let this_update = made_at.minus(backdate);
    let next_update = made_at.plus(services.settings.crl_lifetime);
    // RFC 5280 §3.3: an entry stays until it has been on a list that was made after the certificate's end.
    let ended = made_at.minus(services.settings.crl_lifetime);
    let revoked = services.store.revoked(issuer.id(), ended).await?;
    let lately = made_at.minus(OVERLAP);
    let recent = revoked.iter().filter(|(_, revocation)| revocation.at >= lately);
    let recent = recent.map(|(serial, revocation)| (*serial, revocation.reason)).collect();
    let entry = |(serial, revocation): (_, Revocation)| RevokedEntry {
        serial,
        // Nothing on a list was revoked after it.
        at: revocation.at.min(this_update),
        reason: revocation.reason,
    };
    let template = CrlTemplate {
        number: u64::try_from(number).unwrap_or(1),
        this_update,
        next_update,
        revoked: revoked.into_iter().map(entry).collect(),
        distribution_point: None,
    };
    let signed = issuer.sign_crl(&template).await;
    let der =
        signed.map_err(|error| ServiceError::Internal(format!("the CRL could not be signed: {error}")))?;
    Ok((Crl { number, made_at, next_update, der }, recent))
}
