//! Who may get an account and a certificate: settings that must fit together so that this is what the operator meant.

use std::collections::BTreeMap;

use crate::acme::profile::{AuthorizationMode, Profile};

use super::reader::Reader;
use crate::pki::template::is_policy;

impl Reader {
    /// Every replica must open what another one sealed.
    pub(super) fn check_bindings(&self, profiles: &BTreeMap<String, Profile>) {
        if let Some(profile) = profiles.values().find(|profile| profile.external_account_required) {
            self.refuse(
                &["database.url", "eab.encryption_key", "replicas"],
                format!(
                    "profile {:?} requires external account binding and eab.encryption_key is not set: give every \
                     replica the same one, such as `openssl rand -base64 32` prints",
                    profile.name
                ),
            );
        }
    }

    /// A profile without proof that is open to anyone must be meant; a policy must be one that a certificate can name.
    pub(super) fn check_profile(&self, profile: &Profile, section: &str) {
        let key = |key: &str| format!("{section}.{key}");
        if profile.policy_oid.as_deref().is_some_and(|oid| !is_policy(oid)) {
            let name = key("policy_oid");
            let why =
                format!("{name} is no object identifier: write it in dots, such as 1.3.6.1.4.1.32473.1");
            self.refuse(&[&name], why);
        }
        // Names say what may be issued, not to whom: a list of them is no answer to this.
        let anyone = self.flag(&key("accept_anyone"));
        if profile.authorization == AuthorizationMode::Trusted
            && !profile.external_account_required
            && !anyone
        {
            let inputs = ["authorization", "external_account_required", "accept_anyone"].map(key);
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let names = if profile.allowed_names.is_empty() { "any name" } else { "each of its names" };
            self.refuse(
                &inputs,
                format!(
                    "{section}.authorization is trusted and its accounts need no key of yours: anyone who can reach \
                     this server would get a certificate for {names} without proof. Set \
                     {section}.external_account_required = true and hand out keys (`chancery eab create --profile \
                     {name}`), or set {section}.accept_anyone = true if that is meant",
                    name = profile.name
                ),
            );
        }
    }
}
