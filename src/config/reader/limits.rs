//! Limits, and who is believed about clients' addresses.

use super::Reader;
use crate::config::{Http, Limits};
use crate::limits::{Capacities, Help, Preset};
use crate::peers::budget::{self, Defaults};
use crate::peers::{Bound, Bounds};

impl Reader {
    pub(super) fn http(&self) -> Http {
        let http = Http {
            bounds: self.bounds(),
            header_timeout: self.span("http.header_timeout"),
            idle_timeout: self.span("http.idle_timeout"),
            write_timeout: self.span("http.write_timeout"),
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

    /// What peers may hold: what is set, else what follows from the memory that there is.
    fn bounds(&self) -> Bounds {
        let default = Defaults::of(budget::memory());
        let or = |name: &str, default: usize| self.value(name).map_or(default, |_| self.count(name));
        let bound = |most: &str, default: usize, share: &str, default_share: usize| {
            let most = or(most, default);
            Bound { most, share: or(share, default_share.min(most)) }
        };
        let running = self.count("http.max_in_flight");
        Bounds {
            connections: bound(
                "http.max_connections",
                default.connections,
                "http.connections_per_client",
                default.connections_per_client,
            ),
            open_requests: bound(
                "http.max_open_requests",
                default.open_requests,
                "http.open_requests_per_client",
                default.open_requests_per_client,
            ),
            // Whoever has half of them leaves as many to all others together; few are not worth dividing.
            running_requests: Bound {
                most: running,
                share: or("http.in_flight_per_client", (running / 2).max(16).min(running)),
            },
            octets: bound(
                "http.max_octets",
                default.octets,
                "http.octets_per_client",
                default.octets_per_client,
            ),
        }
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
