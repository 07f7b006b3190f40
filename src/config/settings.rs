//! The table of settings: what can be set, its default, and what it means. Reading, the refusal of unknown names,
//! `chancery check` and docs/configuration.md all follow from it.

use std::time::Duration;

use crate::acme::challenge::ChallengeType;
use crate::acme::profile::KeyType;

use super::kind::Kind;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The TOML section, or nothing for a key at the top.
    pub section: &'static str,
    /// The key in its section.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when it is not set.
    pub preset: Preset,
    /// Whether it is never shown, and may be given by a file.
    pub secret: bool,
    /// What it means, in a line.
    pub meaning: &'static str,
}

/// What holds when a setting is not set.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// Nothing.
    Absent,
    /// What follows from others, in words.
    Derived(&'static str),
    /// This text, read like any other.
    Text(&'static str),
}

impl Setting {
    /// `section.key`, or the key alone.
    pub(super) fn name(&self) -> String {
        match self.section {
            "" => self.key.to_owned(),
            section => format!("{section}.{}", self.key),
        }
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The environment variable for `section.key` or `profiles.NAME.key`.
pub(super) fn environment_name(name: &str) -> String {
    format!("CHANCERY_{}", name.replace(['.', '-'], "_").to_ascii_uppercase())
}

const fn row(
    section: &'static str,
    key: &'static str,
    kind: Kind,
    preset: Preset,
    meaning: &'static str,
) -> Setting {
    Setting { section, key, kind, preset, secret: false, meaning }
}

const fn span(least_milliseconds: u64, most_seconds: u64) -> Kind {
    Kind::Duration(Duration::from_millis(least_milliseconds), Duration::from_secs(most_seconds))
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The folder and file name of the embedded database, under the data folder.
pub(super) const SQLITE_FILE: &str = "chancery.sqlite";

/// The largest capacity of a limit.
const MAX_CAPACITY: u64 = crate::admission::MAX_CAPACITY as u64;

/// How a Redis URL may begin.
const REDIS: &[&str] = &[
    "redis://",
    "rediss://",
    "redis-sentinel://",
    "rediss-sentinel://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis-cluster://",
    "rediss-cluster://",
    "redis+cluster://",
    "rediss+cluster://",
];

/// The words of [`KeyType`].
pub(super) const KEY_TYPES: [&str; KeyType::ALL.len()] = {
    let mut words = [""; KeyType::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = KeyType::ALL[at].as_str();
        at += 1;
    }
    words
};

/// The words of [`ChallengeType`].
pub(super) const CHALLENGE_TYPES: [&str; ChallengeType::ALL.len()] = {
    let mut words = [""; ChallengeType::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = ChallengeType::ALL[at].as_str();
        at += 1;
    }
    words
};

use Kind::{
    Address, AddressOrOff, Addresses, BaseUrl, Boolean, Count, Files, Filter, Key, Link, Names, Networks,
    Path, Service, Word, Words,
};
use Preset::{Absent, Derived, Text};

/// All settings but those of profiles, in the order in which they are shown.
#[rustfmt::skip] // A table is read by rows.
pub const SETTINGS: &[Setting] = &[
    row("", "listen", Address, Text("127.0.0.1:14000"), "Where ACME is served."),
    row("", "external_url", BaseUrl, Text("https://localhost:14000"), "What clients call this server: every URL handed out begins so, whatever the Host header says."),
    row("", "data_dir", Path, Text("./chancery-data"), "Where the embedded database and the embedded certificate authority live."),
    row("", "replicas", Word(&["1", "many"]), Text("many"), "`1` states that this is the only replica, and permits Postgres without Redis."),
    row("", "website", Link, Absent, "The site that the directory names."),
    row("", "pre_authorization", Boolean, Text("true"), "Whether newAuthz is offered (RFC 8555 §7.4.1)."),
    row("ops", "listen", Address, Text("127.0.0.1:14001"), "Where /livez, /readyz and /metrics are served, without TLS."),
    row("database", "url", Service(&["postgres://", "postgresql://", "sqlite:"]), Derived("the SQLite file chancery.sqlite in data_dir"), "`postgres://…` for a fleet, `sqlite:PATH` for one process.").secret(),
    row("database", "connections", Count(1, 1000), Text("8"), "How many connections to Postgres this replica keeps at most for requests and jobs; two more are set aside for readiness, the election and the clock."),
    row("redis", "url", Service(REDIS), Absent, "The nonces of a fleet: `redis://`, `rediss://` (TLS), `redis-sentinel://HOST:PORT,…/MASTER` or `redis-cluster://HOST:PORT,…`.").secret(),
    row("eab", "encryption_key", Key, Derived("eab.key in data_dir, made at the first start; a fleet has none"), "What the secrets of external account keys are encrypted under in the database: 32 octets in base64, such as `openssl rand -base64 32` prints. The same for all replicas and for `chancery eab`.").secret(),
    row("tls", "mode", Word(&["auto", "files", "off"]), Text("auto"), "`auto`: a certificate of our own authority for the host of external_url (where that is this machine, for localhost, 127.0.0.1 and ::1), on record like any other, kept as listener.pem in data_dir, and made anew after 20 of its 30 days or when it was revoked; `files`: tls.cert and tls.key; `off`: plain HTTP behind a load balancer."),
    row("tls", "cert", Path, Absent, "The PEM certificate chain for `files`, leaf first."),
    row("tls", "key", Path, Absent, "The PEM private key for `files`."),
    row("ca", "cert", Path, Derived("issuing.pem in data_dir, made at the first start, or for a fleet by `chancery ca init`"), "The PEM certificate that issues."),
    row("ca", "key", Path, Derived("issuing.key in data_dir, likewise"), "Its PEM private key."),
    row("ca", "chain", Files, Derived("root.pem in data_dir, where ca.cert is not set"), "PEM files, each one chain that follows the issuing certificate; the first is the default, the others are offered as alternates."),
    row("ca", "listen", AddressOrOff, Derived("port 14002 at the address of listen; `off` in a fleet, and where external_url is http"), "Where CRLs and issuers' certificates are served over plain HTTP, and nothing else: some relying parties fetch them only so. `listen` serves them too."),
    row("ca", "public_url", BaseUrl, Derived("`http://`, the host of external_url and the port of ca.listen; external_url where that is off"), "Where certificates say that CRLs and the issuing certificate are found. `http://…`: many relying parties do not fetch them over https (RFC 5280 §8)."),
    row("ca", "include_root", Boolean, Text("false"), "Whether a self-signed root at the end of a chain is sent."),
    row(
        "ca",
        "previous",
        Files,
        Absent,
        "Folders (issuing.pem, issuing.key, root.pem) of authorities that issued before: their CRLs go on.",
    ),
    row(
        "ca",
        "weak_keys",
        Files,
        Absent,
        "Lists of weak RSA keys in the form of Debian's openssl-blacklist, whose keys get no certificate.",
    ),
    row("crl", "interval", span(100, 30 * DAY), Text("1h"), "How often the revocation list is renewed."),
    row("crl", "lifetime", span(1000, 365 * DAY), Text("24h"), "How long a revocation list is valid."),
    row("nonce", "lifetime", span(10, 7 * DAY), Text("15m"), "How long a nonce may be used. Redis keeps some 170 octets of a spent one for as long."),
    row("order", "lifetime", span(10, 90 * DAY), Text("24h"), "How long an order may take until it is issued."),
    row("order", "untouched_after", span(10, 90 * DAY), Text("1h"), "After which time an order that nobody has taken a step of stops counting among the active ones of limits.active_orders, until its first step."),
    row("authorization", "lifetime", span(10, 398 * DAY), Text("24h"), "How long an authorization lives, pending or valid."),
    row("validation", "http01_port", Count(1, 65535), Text("80"), "The port asked for http-01. Other than 80 only behind a port forward or in tests."),
    row("validation", "tlsalpn01_port", Count(1, 65535), Text("443"), "The port asked for tls-alpn-01."),
    row("validation", "dns_servers", Addresses, Derived("the system's resolvers"), "The resolvers asked, as IP:PORT."),
    row("validation", "allow_networks", Networks, Absent, "Networks that may be connected to though they are refused by themselves (loopback, link-local, multicast, metadata services), and whose addresses may be certified though they are no host's in particular."),
    row("validation", "refuse_networks", Networks, Absent, "Networks that may not be connected to; these win."),
    row("validation", "timeout", span(10, 600), Text("10s"), "How long one attempt of http-01 or tls-alpn-01 may take, look-ups included. A DNS look-up has 5 s at most."),
    row("validation", "attempts", Count(1, 20), Text("4"), "How often a failing validation is attempted before it fails for good."),
    row("validation", "deadline", span(10, HOUR), Derived("15s, or half as much again as validation.timeout where that is longer"), "How long a validation may take in all: attempts, pauses between them, and CAA. To wait for a place does not count."),
    row("validation", "concurrency", Count(1, 65536), Text("256"), "How many validations by one challenge type this replica runs at once: each type has places of its own."),
    row("validation", "http01_concurrency", Count(1, 65536), Derived("validation.concurrency"), "How many by http-01."),
    row("validation", "dns01_concurrency", Count(1, 65536), Derived("validation.concurrency"), "How many by dns-01."),
    row("validation", "tlsalpn01_concurrency", Count(1, 65536), Derived("validation.concurrency"), "How many by tls-alpn-01."),
    row("validation", "per_account", Count(1, 65536), Text("16"), "How many validations of one account, by one challenge type, this replica runs at once. More wait for their turn; accounts take turns."),
    row("validation", "per_target", Count(1, 65536), Text("32"), "How many connections to one address, of IPv6 to one /64, this replica has open at once for validations."),
    row("validation", "local_names", Boolean, Text("false"), "Whether names below `localhost` are this machine, and may be validated (RFC 6761 §6.3); their TXT records are asked of dns_servers, where named. For trying out."),
    row("caa", "identities", Names { suffixes: false }, Derived("the host of external_url"), "The issuer names that CAA records may name for us."),
    row("caa", "check", Boolean, Text("true"), "Whether CAA records are asked for (RFC 8659)."),
    row("caa", "stop_at", Names { suffixes: false }, Absent, "Zones that are yours, such as `internal` or `corp.example.com`: CAA is asked up to them and not above, where your name servers may know nothing."),
    row("caa", "max_levels", Count(1, 127), Text("16"), "How many levels CAA is asked about for one name, up to the topmost or to a zone of stop_at. A name with more is not validated."),
    row("terms", "url", Link, Absent, "The terms of service that a new account must agree to."),
    row("http", "max_connections", Count(1, 1_000_000), Derived("from the memory, see capacity.md"), "Connections open at once; above, new ones wait. Never more than three quarters of the process's limit on open files."),
    row("http", "connections_per_client", Count(1, 1_000_000), Derived("a quarter of them, at most 512"), "Connections of one client address (for IPv6: of one /64; of one /48 four times as many); above, new ones are closed. Trusted proxies are not counted."),
    row("http", "max_open_requests", Count(1, 1_000_000), Derived("from the memory, see capacity.md"), "Requests and HTTP/2 streams open at once, from their head until their answer was taken; above, they are answered 503 unread."),
    row("http", "open_requests_per_client", Count(1, 1_000_000), Derived("a quarter of them, at most 512"), "The same for one client address."),
    row("http", "max_in_flight", Count(1, 1_000_000), Text("512"), "Requests at work at once; above, they are answered 503."),
    row("http", "in_flight_per_client", Count(1, 1_000_000), Derived("half of them"), "The same for one client address."),
    row("http", "max_octets", Count(65_536, 1 << 40), Derived("from the memory, see capacity.md"), "Octets held at once of request bodies above 8 KiB and of large answers that were not taken yet; above, requests with such bodies are answered 503."),
    row("http", "octets_per_client", Count(65_536, 1 << 40), Derived("an eighth of them, at most 4 MiB"), "The same for one client address."),
    row("http", "header_timeout", span(10, 600), Text("10s"), "How long a client may take to send the head of a request, from its first octet."),
    row("http", "idle_timeout", span(10, 3600), Text("75s"), "How long a connection is kept without a request. Longer than a load balancer keeps its own, or it sends a request on one that is just closed (nginx and AWS keep theirs 60 s)."),
    row("http", "write_timeout", span(10, 600), Text("10s"), "How long a client may take nothing of an answer before its connection is cut."),
    row("http", "request_timeout", span(10, 600), Text("30s"), "How long one request may take."),
    row("http", "trusted_proxies", Networks, Absent, "Networks of load balancers whose X-Forwarded-For, or PROXY protocol, says who the client is."),
    row("http", "proxy_protocol", Boolean, Text("false"), "Whether the trusted proxies begin each connection with the PROXY protocol, version 1 or 2."),
    row("limits", "preset", Word(&["fleet", "strict"]), Text("fleet"), "Which defaults the limits below have. `strict`, for accounts of single machines: 100 new orders an hour, 5 active ones, 5 key changes, 60 responses. What is set by itself wins."),
    row("limits", "new_orders_per_hour", Count(0, MAX_CAPACITY), Text("1000"), "Orders that an account may place; 0, here and below, is no limit. 100 under `strict`."),
    row("limits", "active_orders", Count(0, MAX_CAPACITY), Text("300"), "Orders of an account that may be pending, ready or processing at once. 5 under `strict`."),
    row("limits", "validations_per_hour", Count(0, MAX_CAPACITY), Text("5000"), "Validations that an account may start, whatever the names and however they end."),
    row("limits", "key_changes_per_hour", Count(0, MAX_CAPACITY), Text("5"), "Changes of an account's key."),
    row("limits", "challenge_responses_per_hour", Count(0, MAX_CAPACITY), Text("60"), "Responses to one challenge, repeated ones too."),
    row("limits", "new_accounts_per_hour", Count(0, MAX_CAPACITY), Text("100"), "Accounts made from one client address; for IPv6 from one /64, and ten times as many from one /48."),
    row("limits", "refused_accounts_per_hour", Count(0, MAX_CAPACITY), Text("300"), "Requests for an account that are refused, by address in the same way."),
    row("limits", "account_updates_per_hour", Count(0, MAX_CAPACITY), Text("20"), "Changes of an account's contacts."),
    row("limits", "deactivations_per_hour", Count(0, MAX_CAPACITY), Text("1000"), "Authorizations that an account may deactivate."),
    row("limits", "revocations_per_hour", Count(0, MAX_CAPACITY), Text("1000"), "Certificates that an account may revoke."),
    row("limits", "failed_validations_per_hour", Count(0, MAX_CAPACITY), Text("30"), "Validations that may fail for one account and identifier."),
    row("limits", "duplicate_certificates_per_day", Count(0, MAX_CAPACITY), Text("30"), "Certificates for exactly the same set of identifiers."),
    row("limits", "exempt_after", span(0, 398 * DAY), Text("6h"), "How old a certificate must be so that the order that renews it in its window is free of the limits on orders."),
    row("limits", "without_redis", Word(&["local", "refuse"]), Text("local"), "While Redis is away: `local` counts in each replica by itself, `refuse` refuses what is limited."),
    row("limits", "help_url", Link, Derived("website, or else the directory"), "The page that a refused client is sent to, such as yours of docs/limits.md; the limit's name is appended as an anchor."),
    row("shutdown", "delay", span(0, 300), Text("5s"), "How long a replica of a fleet goes on taking requests after SIGTERM while `/readyz` says 503, so that balancers notice. SIGINT, or a second SIGTERM, ends the wait."),
    row("shutdown", "timeout", span(0, 600), Text("20s"), "How long running work may take after a signal to stop."),
    row("job", "lease", span(100, HOUR), Text("6s"), "How long a job belongs to its replica without a renewal."),
    row("job", "tick", span(10, 600), Text("1s"), "How often each replica looks for jobs that nobody does."),
    row("job", "issuances", Count(1, 65536), Text("256"), "How many issuances this replica runs at once, a quarter of them for one account. More wait: finalize then answers `processing`."),
    row("leader", "lease", span(500, HOUR), Text("15s"), "How long the replica that sweeps stays the leader without a sign of life; it renews at a third of it."),
    row("sweep", "interval", span(0, DAY), Text("1m"), "How often the leader sweeps what is over. `0s`: this replica never sweeps and does not stand for election; if no other does, nothing is swept."),
    row("retention", "orders", span(1000, 3650 * DAY), Text("30d"), "How long an order that is over is kept after its expiry."),
    row("retention", "authorizations", span(1000, 3650 * DAY), Text("30d"), "How long an expired authorization is kept; longer while an order rests on it."),
    row("retention", "certificates", span(1000, 3650 * DAY), Text("90d"), "How long a certificate is kept after its expiry; longer while its order is kept. Not less than crl.lifetime."),
    row("retention", "audit", span(1000, 3650 * DAY), Text("365d"), "How long events of the audit trail are kept."),
    row("log", "format", Word(&["auto", "json", "text"]), Text("auto"), "`auto` is text on a terminal and JSON elsewhere."),
    row("log", "level", Filter, Text("info"), "error, warn, info, debug or trace, or a filter such as `info,chancery::validation=debug`."),
];

/// The settings of one profile. The section is that of the default profile; others have `profiles.NAME`.
#[rustfmt::skip] // A table is read by rows.
pub const PROFILE_SETTINGS: &[Setting] = &[
    row("default_profile", "description", Kind::Text, Text("TLS server certificates"), "What the directory says of the profile."),
    row("default_profile", "authorization", Word(&["challenge", "trusted"]), Text("challenge"), "`challenge`: names are proven by challenges; `trusted`: a valid account may have any name that allowed_names and denied_names permit."),
    row("default_profile", "validity", span(1000, 3650 * DAY), Text("90d"), "How long a certificate is valid unless the order asks for less."),
    row("default_profile", "shortest_lifetime", span(0, 3650 * DAY), Text("5m"), "The least time that an order's notBefore and notAfter may leave a certificate, where `validity` is longer."),
    row("default_profile", "backdate", span(0, 7 * DAY), Text("1m"), "By how much a certificate's beginning is dated back."),
    row("default_profile", "key_types", Words(&KEY_TYPES), Derived("all"), "The public keys that a request may have: rsa2048, rsa3072, rsa4096, p256, p384, p521, ed25519."),
    row("default_profile", "client_auth", Boolean, Text("false"), "Whether certificates are for TLS clients too."),
    row("default_profile", "policy_oid", Kind::Text, Absent, "The certificate policy that certificates name, as an object identifier in dots (RFC 5280 §4.2.1.4)."),
    row("default_profile", "common_name", Boolean, Text("true"), "Whether the first DNS name is also the subject's common name, where it fits."),
    row("default_profile", "allowed_names", Names { suffixes: true }, Derived("any"), "The names that may be issued: exact, or `.example.com` for all below it."),
    row("default_profile", "denied_names", Names { suffixes: true }, Absent, "The names that may not, in the same form; these win."),
    row("default_profile", "wildcards", Boolean, Text("true"), "Whether wildcards may be issued."),
    row("default_profile", "ip_addresses", Boolean, Text("true"), "Whether IP addresses may be issued (RFC 8738)."),
    row("default_profile", "single_label_names", Boolean, Text("false"), "Whether names without a dot may be issued."),
    row("default_profile", "onion_names", Boolean, Text("false"), "Whether names below `onion` may be issued (RFC 7686): a resolver that knows them is needed to validate them."),
    row("default_profile", "challenge_types", Words(&CHALLENGE_TYPES), Derived("all"), "The challenges offered: http-01, dns-01, tls-alpn-01."),
    row("default_profile", "reuse_authorizations", Boolean, Text("true"), "Whether a valid authorization serves further orders."),
    row("default_profile", "external_account_required", Boolean, Text("false"), "Whether accounts need an external account binding (RFC 8555 §7.3.4), by a key of `chancery eab create`."),
    row("default_profile", "accept_anyone", Boolean, Text("false"), "States that a `trusted` profile without external_account_required is meant: whoever reaches the server then gets every name that it allows, without proof."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::kind::Raw;
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_readable() {
        let mut names = BTreeSet::new();
        for setting in SETTINGS.iter().chain(PROFILE_SETTINGS) {
            assert!(names.insert(environment_name(&setting.name())), "{} twice", setting.name());
            if let Preset::Text(text) = setting.preset {
                setting.kind.read(&Raw::Text(text.to_owned())).unwrap();
            }
            assert!(setting.meaning.ends_with('.'), "{}", setting.name());
        }
    }

    #[test]
    fn every_limit_has_its_setting_and_default() {
        for limit in crate::limits::Limit::ALL {
            let fits = |row: &&Setting| row.section == "limits" && row.key == limit.setting();
            let row = SETTINGS.iter().find(fits).expect("a row for each limit");
            let Preset::Text(text) = row.preset else { panic!("{} has no default", limit.setting()) };
            assert_eq!(text, limit.default_capacity(Default::default()).to_string(), "{}", limit.setting());
            let strict = limit.default_capacity(crate::limits::Preset::Strict);
            let told = row.meaning.contains(&format!("{strict} under `strict`"));
            assert_eq!(told, strict.to_string() != text, "{}", limit.setting());
        }
    }

    #[test]
    fn a_profile_variable_has_one_reading() {
        for one in PROFILE_SETTINGS {
            for other in PROFILE_SETTINGS {
                assert!(!other.key.ends_with(&format!("_{}", one.key)), "{} {}", one.key, other.key);
            }
        }
    }
}
