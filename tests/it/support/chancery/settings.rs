//! What deployments are configured with.

use std::path::Path;

use chancery::limits::{Limit, Preset};

use super::CAA_IDENTITY;
use crate::support::responder;

/// What every deployment is configured with beside its addresses and stores.
const CONFIGURATION: &str = r#"
website = "https://www.chancery.test/"

[validation]
attempts = 2
timeout = "3s"

[crl]
interval = "2s"

# No balancer has to notice that a replica leaves, but in the tests that have one.
[shutdown]
delay = "0s"

# Tests share accounts and addresses; those of limits turn on what they need.
[limits]
new_orders_per_hour = 0
active_orders = 0
key_changes_per_hour = 0
challenge_responses_per_hour = 0
new_accounts_per_hour = 0
failed_validations_per_hour = 0
duplicate_certificates_per_day = 0
validations_per_hour = 0
refused_accounts_per_hour = 0
account_updates_per_hour = 0
deactivations_per_hour = 0
revocations_per_hour = 0

[terms]
url = "https://www.chancery.test/terms"

[default_profile]
denied_names = ["denied.test", ".denied.test"]

[profiles.trusted]
description = "Names are taken on trust."
authorization = "trusted"
accept_anyone = true
client_auth = true

[profiles.forgetful]
description = "Proofs serve one order."
reuse_authorizations = false

[profiles.plain]
description = "No wildcards, no addresses, no common name, nothing used again."
authorization = "trusted"
accept_anyone = true
wildcards = false
ip_addresses = false
common_name = false
reuse_authorizations = false
key_types = ["p256", "p384"]
policy_oid = "1.3.6.1.4.1.32473.1"
"#;

/// What a special deployment has that the shared one has not.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(super) environment: Vec<(String, String)>,
    pub(super) toml: String,
    pub(super) replicas: Option<usize>,
    pub(super) fault: Vec<(String, String)>,
    pub(super) own_postgres: bool,
    pub(super) through_proxy: bool,
    pub(super) redis_through_proxy: bool,
    pub(super) unmigrated: bool,
    pub(super) own: Vec<(usize, String, String)>,
}

impl Settings {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// With an environment variable, which wins over everything else.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With the limits as they are unless configured, instead of none.
    pub fn default_limits(self) -> Self {
        Limit::ALL.into_iter().fold(self, |settings, limit| {
            let name = format!("CHANCERY_LIMITS_{}", limit.setting().to_ascii_uppercase());
            settings.set(&name, limit.default_capacity(Preset::default()).to_string())
        })
    }

    /// With an environment variable for one replica of a fleet alone.
    pub fn set_for(mut self, replica: usize, name: &str, value: impl Into<String>) -> Self {
        self.own.push((replica, name.to_owned(), value.into()));
        self
    }

    /// With more TOML at the end of the configuration file.
    pub fn toml(mut self, text: &str) -> Self {
        self.toml += text;
        self
    }

    /// With a fleet of this size.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = Some(count);
        self
    }
}

/// The environment that all replicas have, and the file that it names.
pub(super) fn common(home: &Path, settings: &Settings) -> Vec<(String, String)> {
    let file = home.join("chancery.toml");
    std::fs::write(&file, format!("{CONFIGURATION}\n{}", settings.toml))
        .expect("the configuration is written");
    [
        ("CHANCERY_CONFIG", file.display().to_string()),
        ("CHANCERY_CAA_IDENTITIES", CAA_IDENTITY.to_owned()),
        ("CHANCERY_VALIDATION_HTTP01_PORT", responder::http().port().to_string()),
        ("CHANCERY_VALIDATION_TLSALPN01_PORT", responder::tls().port().to_string()),
        ("CHANCERY_VALIDATION_DNS_SERVERS", responder::dns().address().to_string()),
        ("CHANCERY_VALIDATION_ALLOW_NETWORKS", "127.0.0.0/8,::1/128".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
