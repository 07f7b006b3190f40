//! What the configuration takes and what it refuses.

mod ca;

use std::ffi::OsString;
use std::path::Path;

use super::*;
use crate::acme::profile::{AuthorizationMode, KeyType};

fn with(environment: &[(&str, &str)]) -> Sources {
    let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    Sources { environment: environment.iter().map(own).collect(), ..Sources::default() }
}

fn loaded(environment: &[(&str, &str)]) -> Config {
    Config::load(&with(environment)).unwrap()
}

fn refused(environment: &[(&str, &str)]) -> String {
    Config::load(&with(environment)).unwrap_err().to_string()
}

/// A folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chancery-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_preset_of_limits_gives_defaults_and_what_is_set_wins() {
    use crate::limits::Limit;
    let wanted = [Limit::NewOrders, Limit::ActiveOrders, Limit::KeyChanges, Limit::ChallengeResponses];
    let of = |config: &Config| wanted.map(|limit| config.limits.capacities.of(limit, ""));
    assert_eq!(of(&loaded(&[])), [1000, 300, 5, 60]);
    let strict = ("CHANCERY_LIMITS_PRESET", "strict");
    let config = loaded(&[strict]);
    assert_eq!(of(&config), [100, 5, 5, 60]);
    // `check` shows what is in force.
    assert!(config.effective.contains("limits.active_orders = 5 "), "{}", config.effective);
    let own = loaded(&[strict, ("CHANCERY_LIMITS_ACTIVE_ORDERS", "7")]);
    assert_eq!(of(&own), [100, 7, 5, 60]);
    assert!(refused(&[("CHANCERY_LIMITS_PRESET", "loose")]).contains("CHANCERY_LIMITS_PRESET"));
}

#[test]
fn without_any_configuration_it_is_embedded() {
    let config = loaded(&[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:14000");
    assert_eq!(config.ops_listen.to_string(), "127.0.0.1:14001");
    assert_eq!(config.external_url, "https://localhost:14000");
    assert_eq!(config.database, Database::Sqlite(PathBuf::from("./chancery-data/chancery.sqlite")));
    assert_eq!((config.redis_url, config.replicas, config.tls), (None, Replicas::Many, Tls::Auto));
    assert_eq!((config.ca.issuer, config.ca.public_url.as_str()), (None, "http://localhost:14002"));
    assert_eq!(config.ca.listen.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:14002"));
    assert_eq!((config.validation.http01_port, config.validation.tlsalpn01_port), (80, 443));
    assert!(!config.validation.local_names);
    let caa =
        Caa { identities: vec!["localhost".to_owned()], check: true, stop_at: Vec::new(), max_levels: 16 };
    assert_eq!(config.caa, caa);
    let profile = &config.profiles["default"];
    assert_eq!(config.profiles.len(), 1);
    assert_eq!(profile.authorization, AuthorizationMode::Challenge);
    assert_eq!(profile.validity, Duration::from_secs(90 * 86_400));
    assert_eq!(profile.key_types, KeyType::ALL);
    assert!(profile.wildcards && profile.ip_addresses && profile.common_name && !profile.single_label_names);
}

#[test]
fn the_environment_wins_over_the_file_and_the_flag_over_both() {
    let folder = Folder::new("priority");
    let file =
        folder.file("chancery.toml", "data_dir = 'a'\nlisten = '0.0.0.0:1'\n[order]\nlifetime = '2h'\n");
    let mut sources = with(&[("CHANCERY_DATA_DIR", "b"), ("CHANCERY_ORDER_LIFETIME", "3h")]);
    sources.environment.push(("CHANCERY_CONFIG".into(), file.into()));
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.order_lifetime, Duration::from_secs(3 * 3600));
    assert_eq!(config.data_dir, Path::new("b"));
    sources.data_dir = Some("c".into());
    assert_eq!(Config::load(&sources).unwrap().data_dir, Path::new("c"));
    sources.file = Some(folder.0.join("absent.toml"));
    assert!(Config::load(&sources).unwrap_err().to_string().contains("absent.toml cannot be read"));
}

#[test]
fn local_sets_the_test_ports_and_explicit_settings_win() {
    let mut sources = with(&[("CHANCERY_VALIDATION_HTTP01_PORT", "8080")]);
    sources.local = true;
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.validation.http01_port, config.validation.tlsalpn01_port), (8080, 5001));
    assert!(config.validation.local_names);
    let (local, plain) = (config, loaded(&[]));
    let changed: Vec<&str> = local
        .effective()
        .lines()
        .zip(plain.effective().lines())
        .filter(|(a, b)| a != b)
        .filter_map(|(a, _)| a.split(' ').next())
        .collect();
    assert_eq!(changed, ["validation.http01_port", "validation.tlsalpn01_port", "validation.local_names"]);
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    let text = refused(&[("CHANCERY_NONCE_LIFETYME", "1h"), ("CHANCERY_COFFEE", "1")]);
    assert!(
        text.contains("unknown setting CHANCERY_NONCE_LIFETYME; did you mean CHANCERY_NONCE_LIFETIME?"),
        "{text}"
    );
    assert!(text.contains("unknown setting CHANCERY_COFFEE; `chancery check --reference`"), "{text}");

    for (wrong, meant) in [
        ("CHANCERY_PROFILES_WEB_VALIDTY", "CHANCERY_PROFILES_WEB_VALIDITY"),
        ("CHANCERY_PROFILE_WEB_SHOP_DENIED_NAMES", "CHANCERY_PROFILES_WEB_SHOP_DENIED_NAMES"),
    ] {
        let text = refused(&[(wrong, "1h")]);
        assert!(text.contains(&format!("unknown setting {wrong}; did you mean {meant}?")), "{text}");
    }

    let folder = Folder::new("unknown");
    let toml = "listen = '0.0.0.0:1'\nreplica = 1\n[nonse]\na = 1\n[order]\n\nlifetme = '2h'\n[profiles.a]\nx.y = 1\n\
                wildcard = true\n[defult_profile]\n[profile.b]\n";
    let sources = Sources { file: Some(folder.file("c.toml", toml)), ..Sources::default() };
    let text = Config::load(&sources).unwrap_err().to_string();
    for line in [
        "unknown setting replica (line 2 of the file); did you mean replicas?",
        "unknown setting nonse (line 3 of the file); did you mean nonce?",
        "unknown setting order.lifetme (line 7 of the file); did you mean order.lifetime?",
        "unknown setting profiles.a.x (line 9 of the file)",
        "unknown setting profiles.a.wildcard (line 10 of the file); did you mean profiles.a.wildcards?",
        "unknown setting defult_profile (line 11 of the file); did you mean default_profile?",
        "unknown setting profile (line 12 of the file); did you mean profiles?",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
}

#[test]
fn what_kubernetes_says_of_services_is_no_setting() {
    loaded(&[
        ("CHANCERY_SERVICE_HOST", "10.0.0.1"),
        ("CHANCERY_SERVICE_PORT", "443"),
        ("CHANCERY_SERVICE_PORT_HTTPS", "443"),
        ("CHANCERY_PORT", "tcp://10.0.0.1:443"),
        ("CHANCERY_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ("CHANCERY_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("CHANCERY_PORT_443_TCP_PROTO", "tcp"),
        ("CHANCERY_OPS_PORT_14001_TCP_PORT", "14001"),
        ("CHANCERY_TEST_FAULT", "x"),
        ("CHANCERY_REDIS_URL", ""),
    ]);
    assert!(refused(&[("CHANCERY_PORT", "443")]).contains("unknown setting CHANCERY_PORT;"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = refused(&[
        ("CHANCERY_LISTEN", "localhost"),
        ("CHANCERY_NONCE_LIFETIME", "10"),
        ("CHANCERY_VALIDATION_HTTP01_PORT", "70000"),
        ("CHANCERY_EXTERNAL_URL", "acme.example.com"),
        ("CHANCERY_TLS_MODE", "files"),
        ("CHANCERY_JOB_LEASE", "1s"),
    ]);
    for part in [
        "for 6 reasons",
        "CHANCERY_LISTEN = \"localhost\": an address is IP:PORT",
        "CHANCERY_NONCE_LIFETIME = \"10\": a time span",
        "CHANCERY_VALIDATION_HTTP01_PORT = \"70000\": this is a whole number from 1 to 65535",
        "CHANCERY_EXTERNAL_URL = \"acme.example.com\"",
        "set both tls.cert and tls.key",
        "job.lease must be longer than job.tick",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_fleet_needs_redis_and_one_authority_unless_it_is_one_replica() {
    let postgres = ("CHANCERY_DATABASE_URL", "postgres://chancery:swordfish@db/chancery");
    let text = refused(&[postgres, ("CHANCERY_DATA_DIR", "/nowhere")]);
    assert!(text.contains("/nowhere lacks root.pem, issuing.pem, issuing.key"), "{text}");
    assert!(text.contains("`chancery ca init --data-dir /nowhere` once"), "{text}");
    assert!(text.contains("Set redis.url, or set replicas = 1") && text.contains("ca.cert"), "{text}");
    assert!(!text.contains("swordfish"));
    let config = loaded(&[postgres, ("CHANCERY_REPLICAS", "1")]);
    assert_eq!(config.replicas, Replicas::One);
    let config = loaded(&[
        postgres,
        ("CHANCERY_REDIS_URL", "redis-sentinel://a:26379,b:26379/primary"),
        ("CHANCERY_CA_CERT", "issuing.pem"),
        ("CHANCERY_CA_KEY", "issuing.key"),
        ("CHANCERY_CA_CHAIN", "root.pem, cross.pem"),
    ]);
    assert!(matches!(&config.database, Database::Postgres(url) if url.expose().ends_with("@db/chancery")));
    assert_eq!(config.ca.chains, [PathBuf::from("root.pem"), PathBuf::from("cross.pem")]);
    assert!(!format!("{config:?}").contains("swordfish"));
    assert!(!config.effective().contains("swordfish"));
    assert!(refused(&[("CHANCERY_CA_CERT", "issuing.pem")]).contains("set both"));
}

#[test]
fn a_fleet_takes_the_authority_of_its_data_folder_if_it_is_complete() {
    let folder = Folder::new("authority");
    let mut sources =
        with(&[("CHANCERY_DATABASE_URL", "postgres://db/chancery"), ("CHANCERY_REDIS_URL", "redis://cache")]);
    for file in ["root.pem", "issuing.pem", "issuing.key"] {
        sources.data_dir = folder.file(file, "").parent().map(Path::to_owned);
        let loaded = Config::load(&sources);
        assert_eq!(loaded.is_ok(), file == "issuing.key", "{file}");
    }
    let (config, folder) = (Config::load(&sources).unwrap(), sources.data_dir.clone().unwrap());
    let issuer = config.ca.issuer.unwrap();
    assert_eq!((issuer.cert, issuer.key), (folder.join("issuing.pem"), folder.join("issuing.key")));
    assert_eq!(config.ca.chains, [folder.join("root.pem")]);
    // A command that needs the folder alone asks for nothing else.
    let unfinished = with(&[("CHANCERY_DATABASE_URL", "postgres://db/chancery"), ("CHANCERY_DATA_DIR", "d")]);
    assert_eq!(Config::data_dir(&unfinished).unwrap(), PathBuf::from("d"));
    assert!(Config::data_dir(&with(&[("CHANCERY_DATA_DIRECTORY", "d")])).is_err());
}

#[test]
fn a_secret_comes_from_a_file_too_and_is_never_shown() {
    let folder = Folder::new("secret");
    let secret = folder.file("redis", "redis://:swordfish@cache:6379\n");
    let path = secret.to_str().unwrap();
    let config = loaded(&[("CHANCERY_REDIS_URL_FILE", path)]);
    assert_eq!(config.redis_url.unwrap().expose(), "redis://:swordfish@cache:6379");
    let both = refused(&[("CHANCERY_REDIS_URL_FILE", path), ("CHANCERY_REDIS_URL", "redis://other")]);
    assert!(both.contains("CHANCERY_REDIS_URL and CHANCERY_REDIS_URL_FILE are both set"), "{both}");
    assert!(refused(&[("CHANCERY_REDIS_URL_FILE", "/nowhere/redis")]).contains("cannot be read"));
    assert!(refused(&[("CHANCERY_LISTEN_FILE", path)]).contains("unknown setting CHANCERY_LISTEN_FILE"));
    let shown = refused(&[("CHANCERY_REDIS_URL", "memcached://:swordfish@cache")]);
    assert!(shown.contains("CHANCERY_REDIS_URL (not shown): this URL begins with redis://"), "{shown}");
    assert!(!shown.contains("swordfish"));

    let toml = format!("[redis]\nurl_file = {path:?}\n");
    let mut sources = Sources { file: Some(folder.file("c.toml", &toml)), ..Sources::default() };
    assert!(Config::load(&sources).unwrap().redis_url.is_some());
    sources.file = Some(folder.file("d.toml", &format!("{toml}url = 'redis://other'\n")));
    assert!(
        Config::load(&sources).unwrap_err().to_string().contains("redis.url and redis.url_file are both set")
    );
}

#[test]
fn profiles_come_from_the_file_and_the_environment() {
    let folder = Folder::new("profiles");
    let toml = "[profiles.short-lived]\nvalidity = '7d'\nkey_types = ['p256', 'ed25519']\nip_addresses = false\n\
                [default_profile]\nclient_auth = true\n";
    let mut sources = with(&[
        ("CHANCERY_PROFILES_SHORT_LIVED_VALIDITY", "6d"),
        ("CHANCERY_PROFILES_INSIDE_AUTHORIZATION", "trusted"),
        ("CHANCERY_PROFILES_INSIDE_EXTERNAL_ACCOUNT_REQUIRED", "true"),
        ("CHANCERY_PROFILES_INSIDE_ALLOWED_NAMES", ".inside.example.com"),
        ("CHANCERY_DEFAULT_PROFILE_BACKDATE", "0s"),
    ]);
    sources.file = Some(folder.file("c.toml", toml));
    let config = Config::load(&sources).unwrap();
    let names: Vec<&str> = config.profiles.keys().map(String::as_str).collect();
    assert_eq!(names, ["default", "inside", "short-lived"]);
    let short = &config.profiles["short-lived"];
    assert_eq!(short.validity, Duration::from_secs(6 * 86_400));
    assert_eq!(short.key_types, [KeyType::P256, KeyType::Ed25519]);
    assert!(!short.ip_addresses && !short.client_auth);
    assert_eq!(config.profiles["inside"].allowed_names, [".inside.example.com"]);
    let default = &config.profiles["default"];
    assert!(default.client_auth && default.backdate.is_zero());
    let name = refused(&[("CHANCERY_PROFILES_DEFAULT_VALIDITY", "1d")]);
    assert!(name.contains("set under default_profile") && !name.contains("unknown"), "{name}");
}

#[test]
fn a_trusted_profile_for_anyone_is_refused_unless_it_is_meant() {
    let trusted = ("CHANCERY_DEFAULT_PROFILE_AUTHORIZATION", "trusted");
    assert!(refused(&[trusted]).contains("default_profile.accept_anyone = true if that is meant"));
    let config = loaded(&[trusted, ("CHANCERY_DEFAULT_PROFILE_ACCEPT_ANYONE", "true")]);
    assert_eq!(config.profiles["default"].authorization, AuthorizationMode::Trusted);
    loaded(&[trusted, ("CHANCERY_DEFAULT_PROFILE_EXTERNAL_ACCOUNT_REQUIRED", "true")]);
    // What may be issued is one thing, to whom another.
    let names = ("CHANCERY_DEFAULT_PROFILE_ALLOWED_NAMES", ".example.com");
    let named = refused(&[trusted, names]);
    assert!(named.contains("each of its names") && named.contains("eab create --profile default"), "{named}");
    loaded(&[trusted, names, ("CHANCERY_DEFAULT_PROFILE_ACCEPT_ANYONE", "true")]);
    let other = refused(&[("CHANCERY_PROFILES_X_AUTHORIZATION", "trusted")]);
    assert!(other.contains("profiles.x.accept_anyone") && other.contains("any name"), "{other}");
    // Not a word of it where names are proven.
    loaded(&[("CHANCERY_DEFAULT_PROFILE_AUTHORIZATION", "challenge")]);
}

#[test]
fn a_policy_is_an_object_identifier() {
    let with = |oid: &'static str| [("CHANCERY_PROFILES_A_POLICY_OID", oid)];
    assert_eq!(loaded(&with("2.23.140.1.2.1")).profiles["a"].policy_oid.as_deref(), Some("2.23.140.1.2.1"));
    for wrong in ["any", "1", "3.1", "1.2.x", "1.2.03"] {
        assert!(refused(&with(wrong)).contains("profiles.a.policy_oid is no object identifier"), "{wrong}");
    }
}

#[test]
fn what_check_shows_can_be_loaded_again() {
    let folder = Folder::new("effective");
    let config = loaded(&[
        ("CHANCERY_WEBSITE", "https://example.com/\"quoted\\".trim_end_matches(['"', '\\'])),
        ("CHANCERY_DEFAULT_PROFILE_DESCRIPTION", "says \"hello\" \\ bye"),
        ("CHANCERY_PROFILES_A_KEY_TYPES", "p256,p384"),
        ("CHANCERY_VALIDATION_DNS_SERVERS", "127.0.0.1:53,[::1]:53"),
    ]);
    assert!(config.effective().contains("# CHANCERY_VALIDATION_DNS_SERVERS"));
    let sources = Sources { file: Some(folder.file("c.toml", config.effective())), ..Sources::default() };
    let again = Config::load(&sources).unwrap();
    let values = |config: &Config| format!("{:?}", Config { effective: String::new(), ..config.clone() });
    assert_eq!(values(&again), values(&config));
}

#[test]
fn what_is_revoked_is_kept_until_its_last_list_is_made() {
    let kept = |certificates, lifetime| {
        [("CHANCERY_RETENTION_CERTIFICATES", certificates), ("CHANCERY_CRL_LIFETIME", lifetime)]
    };
    for (certificates, lifetime) in [("23h", "24h"), ("90d", "91d")] {
        let text = refused(&kept(certificates, lifetime));
        assert!(text.contains("retention.certificates is shorter than crl.lifetime"), "{text}");
        assert!(text.contains("keep certificates at least as long as a list is valid"), "{text}");
    }
    loaded(&kept("24h", "24h"));
    assert!(refused(&[("CHANCERY_RETENTION_CERTIFICATES", "1h")]).contains("crl.lifetime"));
    // One fault is told once.
    assert!(!refused(&kept("soon", "24h")).contains("is shorter than"));
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let folder = Folder::new("syntax");
    let sources =
        Sources { file: Some(folder.file("c.toml", "listen = '1'\nnonce\n")), ..Sources::default() };
    let text = Config::load(&sources).unwrap_err().to_string();
    assert!(text.contains("is not TOML: line 2: "), "{text}");
    let sources =
        Sources { file: Some(folder.file("d.toml", "nonce = 5\nlisten = 1.5\n")), ..Sources::default() };
    let text = Config::load(&sources).unwrap_err().to_string();
    assert!(text.contains("nonce (line 1 of the file): this is a section"), "{text}");
    assert!(text.contains("listen (line 2): this setting takes text"), "{text}");
}

#[test]
fn the_reference_in_the_documentation_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference_markdown(),
        "docs/configuration.md is out of date; run: cargo run -- check --reference > docs/configuration.md"
    );
}

#[test]
fn the_example_for_a_fleet_can_be_loaded() {
    let folder = Folder::new("example");
    let secrets = [
        ("database-url", "postgres://db.test/chancery"),
        ("redis-url", "rediss://redis.test"),
        ("eab-key", "+/8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="),
    ];
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config.example.toml"));
    let mut text = text.expect("the example is there");
    for (name, content) in secrets {
        let path = folder.file(name, content);
        text = text.replace(&format!("/etc/chancery/{name}"), &path.display().to_string());
    }
    let sources = Sources { file: Some(folder.file("c.toml", &text)), ..Sources::default() };
    let config = Config::load(&sources).expect("the example is right");
    assert_eq!(config.profiles.len(), 2);
    assert_eq!(config.ca.public_url, "http://acme.example.net");
}

#[test]
fn eab_01_a_fleet_that_requires_bindings_needs_one_key_for_their_secrets() {
    let key = "+/8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";
    let fleet = [
        ("CHANCERY_DATABASE_URL", "postgres://db/chancery"),
        ("CHANCERY_REDIS_URL", "redis://cache"),
        ("CHANCERY_CA_CERT", "issuing.pem"),
        ("CHANCERY_CA_KEY", "issuing.key"),
        ("CHANCERY_PROFILES_BOUND_EXTERNAL_ACCOUNT_REQUIRED", "true"),
    ];
    let text = refused(&fleet);
    assert!(text.contains("\"bound\" requires external account binding and eab.encryption_key"), "{text}");
    let with = |more: (&'static str, &'static str)| [&fleet[..], &[more]].concat();
    let config = loaded(&with(("CHANCERY_EAB_ENCRYPTION_KEY", key)));
    assert!(config.profiles["bound"].external_account_required);
    assert!(!config.profiles["default"].external_account_required);
    assert_eq!(config.eab_encryption_key.as_ref().map(Secret::expose), Some(key));
    assert!(!config.effective().contains(key) && !format!("{config:?}").contains(key));
    loaded(&with(("CHANCERY_REPLICAS", "1")));
    loaded(&fleet[4..]);
    let text = refused(&[("CHANCERY_EAB_ENCRYPTION_KEY", "swordfish")]);
    assert!(text.contains("32 octets in base64") && !text.contains("swordfish"), "{text}");
}
