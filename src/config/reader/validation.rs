//! How challenges are validated.

use std::time::Duration;

use super::super::Validation;
use super::super::kind::Value;
use super::{Reader, mismatch};

/// How long a validation may take in all, where that is not set and attempts are as short as by default: a target that takes
/// connections and is silent is reported by then.
const DEADLINE: Duration = Duration::from_secs(15);

impl Reader {
    pub(super) fn validation(&self) -> Validation {
        let dns_servers = match self.value("validation.dns_servers") {
            None => Vec::new(),
            Some(Value::Addresses(addresses)) => addresses.clone(),
            other => mismatch("validation.dns_servers", other),
        };
        let timeout = self.span("validation.timeout");
        let at_once = self.count("validation.concurrency");
        let concurrency = |name: &str| self.count_if_set(name).unwrap_or(at_once);
        Validation {
            http01_port: self.count("validation.http01_port"),
            tlsalpn01_port: self.count("validation.tlsalpn01_port"),
            dns_servers,
            allow_networks: self.networks("validation.allow_networks"),
            refuse_networks: self.networks("validation.refuse_networks"),
            timeout,
            attempts: self.count("validation.attempts"),
            deadline: self
                .span_if_set("validation.deadline")
                .unwrap_or_else(|| DEADLINE.max(timeout * 3 / 2)),
            http01_concurrency: concurrency("validation.http01_concurrency"),
            dns01_concurrency: concurrency("validation.dns01_concurrency"),
            tlsalpn01_concurrency: concurrency("validation.tlsalpn01_concurrency"),
            per_account: self.count("validation.per_account"),
            per_target: self.count("validation.per_target"),
            local_names: self.flag("validation.local_names"),
        }
    }
}
