//! Limits, and who is believed about clients' addresses.

use super::Reader;
use crate::config::{Http, Limits};
use crate::limits::{Capacities, Help, Preset};

impl Reader {
    pub(super) fn http(&self) -> Http {
        let http = Http {
            max_connections: self.count("http.max_connections"),
            max_in_flight: self.count("http.max_in_flight"),
            header_timeout: self.span("http.header_timeout"),
            request_timeout: self.span("http.request_timeout"),
            trusted_proxies: self.networks("http.trusted_proxies"),
            proxy_protocol: self.flag("http.proxy_protocol"),
        };
        if http.proxy_protocol && http.trusted_proxies.is_empty() {
            self.refuse(
                &["http.proxy_protocol", "http.trusted_proxies"],
                "http.proxy_protocol is true and http.trusted_proxies is empty: say which load balancers speak it",
            );
        }
        http
    }

    pub(super) fn limits(&self, external_url: &str) -> Limits {
        let help = match self.text("limits.help_url") {
            Some(page) => Help::Page(page),
            None => Help::Site(self.text("website").unwrap_or_else(|| format!("{external_url}/directory"))),
        };
        let preset = self.text("limits.preset").and_then(|word| Preset::parse(&word));
        Limits {
            preset: preset.unwrap_or_default(),
            capacities: Capacities::new(|limit| self.count(&format!("limits.{}", limit.setting()))),
            exempt_after: self.span("limits.exempt_after"),
            alone_without_redis: self.text("limits.without_redis").as_deref() != Some("refuse"),
            help,
        }
    }
}
