//! Floor 3: one file a use case, its whole story from top to bottom. Services join the stores, the rules and the
//! issuer; they know nothing of HTTP.

pub mod accounts;
pub mod authorizations;
pub mod blocked_keys;
mod caa;
pub mod certificates;
pub mod challenges;
pub mod crls;
pub mod external_accounts;
pub mod fault;
pub mod finalize;
mod issuable;
pub mod jobs;
pub mod key_change;
mod lease;
pub mod limits;
pub mod listener_certificate;
pub mod names;
pub mod orders;
mod random;
pub mod refusal;
pub mod renewal;
pub mod sealing;
pub mod turns;
pub mod urls;
pub mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::acme::profile::Profile;
use crate::acme::time::{Clock, Timestamp};
use crate::admission::Nonces;
use crate::limits::Limits;
use crate::network::Network;
use crate::pki::issuer::Issuer;
use crate::pki::weak_keys::WeakKeys;
use crate::policy::caa::Climb;
use crate::policy::special::Ours;
use crate::storage::Store;
use crate::validation::ValidationConfig;

pub use jobs::{JobBounds, Jobs};
pub use refusal::{Refusal, ServiceError};
pub use sealing::SealingKey;
pub use urls::Urls;

/// What every use case may need. One per replica, shared by all its tasks.
pub struct Services {
    /// The durable store.
    pub store: Store,
    /// Anti-replay nonces.
    pub nonces: Arc<dyn Nonces>,
    /// What requests are charged.
    pub limits: Limits,
    /// The way out to validation targets and DNS.
    pub network: Arc<Network>,
    /// Who signs.
    pub issuer: Arc<dyn Issuer>,
    /// Who signed before: their certificates can still be downloaded and revoked, and their CRLs are renewed.
    pub previous_issuers: Vec<Arc<dyn Issuer>>,
    /// Keys that no certificate is issued for (ORD-11).
    pub weak_keys: WeakKeys,
    /// What the secrets of external account keys are sealed under; nothing where there are none.
    pub sealing: Option<SealingKey>,
    /// The profiles by name; `default` is always there.
    pub profiles: BTreeMap<String, Profile>,
    /// The fleet's time.
    pub clock: Arc<dyn Clock>,
    /// The URLs that are handed out.
    pub urls: Urls,
    /// Wakes whoever revokes the certificates of compromised keys.
    pub key_blocked: tokio::sync::Notify,
    /// The newest CRLs, as they are given out.
    pub crls: crls::Lists,
    /// Wakes the publisher of CRLs after a revocation.
    pub crl_wanted: tokio::sync::Notify,
    /// The jobs that run in this replica.
    pub jobs: Jobs,
    /// The rest of the configuration that use cases need.
    pub settings: Settings,
}

/// Configuration of the use cases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an order may take.
    pub order_lifetime: Duration,
    /// How long an order counts among the active ones though nobody responds to any of its challenges.
    pub untouched_after: Duration,
    /// How old a certificate must be so that limits do not count the order that renews it (ARI-04).
    pub exempt_after: Duration,
    /// How long an authorization counts, from its creation and again from its validation.
    pub authorization_lifetime: Duration,
    /// The terms of service that accounts must agree to, if any.
    pub terms_of_service: Option<String>,
    /// Where people read about this CA, if anywhere.
    pub website: Option<String>,
    /// Names this CA goes by in CAA records.
    pub caa_identities: Vec<String>,
    /// Whether CAA is asked at all.
    pub check_caa: bool,
    /// How far up CAA is asked.
    pub caa_climb: Climb,
    /// Which special names and addresses are somebody's here.
    pub ours: Ours,
    /// Whether new-authz is offered.
    pub pre_authorization: bool,
    /// How long a job is held without a sign of life.
    pub lease: Duration,
    /// How often a validation is tried when it fails for a reason that may pass.
    pub validation_attempts: u32,
    /// How long a validation may take in all: tries, CAA, and the pauses between them.
    pub validation_deadline: Duration,
    /// Ports of the validation methods.
    pub validation: ValidationConfig,
    /// How often CRLs are renewed.
    pub crl_interval: Duration,
    /// How long a CRL is good.
    pub crl_lifetime: Duration,
}

/// The profile that serves clients that name none.
pub const DEFAULT_PROFILE: &str = "default";

impl Services {
    /// Every issuer, the one that signs now first.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<dyn Issuer>> {
        std::iter::once(&self.issuer).chain(&self.previous_issuers)
    }

    /// An issuer by its name.
    pub fn issuer_named(&self, id: &str) -> Option<&Arc<dyn Issuer>> {
        self.issuers().find(|issuer| issuer.id() == id)
    }

    /// The present, by the fleet's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
