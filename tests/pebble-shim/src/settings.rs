//! From what Pebble was asked for to what Chancery is told, and what cannot be had.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::arguments::Arguments;
use crate::authority::Keys;
use crate::configuration::{Configuration, Profile};
use crate::environment::Environment;
use crate::{Failure, resolve};

/// The path below which Chancery's URLs lie. Suites match the URLs of certificates against Pebble's `/certZ/` and a
/// word of 14 or more; a path in `external_url` is Chancery's own setting, so its answers need no rewriting.
pub(crate) const PREFIX: &str = "/certZ/servedByChancery";

/// Pebble's validity where a profile names none.
const VALIDITY: u64 = 7_776_000;

/// Everything that is to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where ACME is served.
    pub(crate) listen: String,
    /// What clients call it: `HOST:PORT`.
    pub(crate) host: String,
    /// Where the management interface is served, if it is.
    pub(crate) management: Option<String>,
    /// The PEM chain of both listeners.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) private_key: PathBuf,
    /// The kind of the authority's keys.
    pub(crate) keys: Keys,
    /// How many roots beside the first.
    pub(crate) alternates: usize,
    /// How many certificates between leaf and root.
    pub(crate) chain_length: usize,
    /// Of a hundred nonces, how many are no good.
    pub(crate) spoiled: u32,
    /// The name servers to ask; the system's if there are none.
    pub(crate) resolvers: Vec<SocketAddr>,
    /// HMAC keys by their identifiers.
    pub(crate) mac_keys: BTreeMap<String, String>,
    /// Chancery's settings, but for what depends on the process: addresses and files.
    pub(crate) toml: String,
    /// What the reader of the log ought to know.
    pub(crate) remarks: Vec<String>,
}

impl Plan {
    /// Makes the plan, or says what of Pebble's Chancery does not have.
    pub(crate) fn make(
        arguments: &Arguments,
        configuration: &Configuration,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let keys = match configuration.key_algorithm.as_deref() {
            None | Some("" | "rsa") => Keys::Rsa,
            Some("ecdsa") => Keys::Ecdsa,
            Some(other) => return Err(format!("invalid key algorithm: {other:?} is not rsa or ecdsa").into()),
        };
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let host = host(&configuration.listen)?;
        Ok(Self {
            listen: listen(&configuration.listen),
            management: some(&configuration.management).map(|address| listen(&address)),
            certificate: configuration.certificate.clone(),
            private_key: configuration.private_key.clone(),
            keys,
            alternates: environment.alternate_roots,
            chain_length: environment.chain_length,
            spoiled: environment.spoiled_nonces,
            mac_keys: configuration.mac_keys.clone().unwrap_or_default(),
            toml: toml(configuration, environment, &host),
            resolvers: arguments.resolver.as_deref().map_or_else(|| Ok(Vec::new()), resolve)?,
            remarks: remarks(configuration, environment),
            host,
        })
    }
}

/// Go's `:PORT` is every address.
fn listen(address: &str) -> String {
    if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() }
}

/// What clients call a listener: `localhost` where it listens on every address, as Pebble's suites do.
fn host(address: &str) -> Result<String, Failure> {
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| format!("listenAddress {address:?} has no port"))?;
    let everywhere = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    Ok(if host.is_empty() || everywhere { format!("localhost:{port}") } else { address.to_owned() })
}

fn remarks(configuration: &Configuration, environment: &Environment) -> Vec<String> {
    let mut remarks = vec![
        "this is Chancery in Pebble's shape; it is always strict, and never sleeps before it validates"
            .to_owned(),
        format!("{}% of nonces are spoiled on their way to the client", environment.spoiled_nonces),
    ];
    if configuration.ocsp.as_deref().is_some_and(|url| !url.is_empty()) {
        remarks
            .push("ocspResponderURL has no effect: certificates name a CRL and no OCSP responder".to_owned());
    }
    if configuration.retry_after.is_some() {
        remarks.push("retryAfter has no effect: Chancery says by itself when to come back".to_owned());
    }
    if (1..100).contains(&environment.reuse) {
        let reuse = environment.reuse;
        remarks.push(format!("valid authorizations are always reused, instead of {reuse}% of them"));
    }
    if environment.always_valid {
        remarks.push("PEBBLE_VA_ALWAYS_VALID: profiles are trusted, and orders ready at once".to_owned());
    }
    remarks
}

/// A TOML string; JSON's are a subset.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quoted(&text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn toml(configuration: &Configuration, environment: &Environment, host: &str) -> String {
    let identities = configuration.caa_identities.clone().filter(|names| !names.is_empty());
    let identities = identities.unwrap_or_else(|| vec!["pebble.letsencrypt.org".to_owned()]);
    let mut text = format!(
        "external_url = {}\npre_authorization = false\n\
         [terms]\nurl = {}\n\
         [caa]\ncheck = false\nidentities = {}\n\
         [validation]\nhttp01_port = {}\ntlsalpn01_port = {}\nlocal_names = true\nattempts = 1\n\
         allow_networks = [\"0.0.0.0/0\", \"::/0\"]\n\
         [limits]\nnew_orders_per_hour = 0\nactive_orders = 0\nkey_changes_per_hour = 0\n\
         challenge_responses_per_hour = 0\nnew_accounts_per_hour = 0\nfailed_validations_per_hour = 0\n\
         duplicate_certificates_per_day = 0\nvalidations_per_hour = 0\nrefused_accounts_per_hour = 0\n\
         account_updates_per_hour = 0\ndeactivations_per_hour = 0\nrevocations_per_hour = 0\n",
        quoted(&format!("https://{host}{PREFIX}")),
        quoted(&format!("https://{host}/dir")),
        list(identities),
        configuration.http_port,
        configuration.tls_port,
    );
    let profiles = profiles(configuration);
    let default = if profiles.contains_key("default") { Some("default") } else { None };
    let default = default.or_else(|| profiles.keys().next().map(String::as_str)).unwrap_or_default();
    for (name, profile) in &profiles {
        if name == default {
            text += &section("default_profile", profile, configuration, environment);
        }
        if name != "default" {
            text += &section(&format!("profiles.{}", quoted(name)), profile, configuration, environment);
        }
    }
    text
}

/// The profiles that Pebble would have.
fn profiles(configuration: &Configuration) -> BTreeMap<String, Profile> {
    let given = configuration.profiles.clone().filter(|profiles| !profiles.is_empty());
    given.unwrap_or_else(|| {
        let description = "The default profile".to_owned();
        let validity = configuration.validity.unwrap_or_default();
        BTreeMap::from([("default".to_owned(), Profile { description, common_name: false, validity })])
    })
}

fn section(
    name: &str,
    profile: &Profile,
    configuration: &Configuration,
    environment: &Environment,
) -> String {
    let blocked = configuration.blocked.iter().flatten();
    let denied = list(blocked.flat_map(|name| [name.clone(), format!(".{name}")]));
    let validity = if profile.validity == 0 { VALIDITY } else { profile.validity };
    let mut text = format!("[{name}]\n");
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "description = {}\nvalidity = \"{validity}s\"\nbackdate = \"0s\"\ncommon_name = {}\ndenied_names = {denied}\n\
         single_label_names = true\nreuse_authorizations = {}\nexternal_account_required = {}\n",
        quoted(&profile.description),
        profile.common_name,
        environment.reuse > 0,
        configuration.binding_required,
    );
    if environment.always_valid {
        text += "authorization = \"trusted\"\naccept_anyone = true\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(configuration: &Configuration, variables: &[(&str, &str)]) -> Result<Plan, Failure> {
        let arguments =
            Arguments { config: PathBuf::new(), resolver: Some(":5353".to_owned()), strict: true };
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Plan::make(&arguments, configuration, &Environment::read(variables)?)
    }

    fn configuration() -> Configuration {
        Configuration {
            listen: "0.0.0.0:14000".to_owned(),
            http_port: 5002,
            tls_port: 5001,
            ..Default::default()
        }
    }

    #[test]
    fn what_pebble_was_told_chancery_is_told() {
        let short = Profile { description: "a \"short\" one".to_owned(), common_name: true, validity: 60 };
        let configuration = Configuration {
            blocked: Some(vec!["blocked.example".to_owned()]),
            binding_required: true,
            profiles: Some([("a".to_owned(), short), ("b".to_owned(), Profile::default())].into()),
            ..configuration()
        };
        let plan = plan(&configuration, &[("PEBBLE_AUTHZREUSE", "0")]).unwrap();
        assert_eq!((plan.host.as_str(), plan.spoiled, plan.keys), ("localhost:14000", 5, Keys::Rsa));
        let read: ::chancery::config::Config = {
            let folder = std::env::temp_dir().join(format!("chancery-plan-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join("config.toml");
            std::fs::write(&file, &plan.toml).unwrap();
            let sources = ::chancery::config::Sources {
                file: Some(file),
                data_dir: Some(folder.clone()),
                ..Default::default()
            };
            let read = ::chancery::config::Config::load(&sources).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            read
        };
        assert_eq!(read.external_url, format!("https://localhost:14000{PREFIX}"));
        assert_eq!(plan.resolvers, ["127.0.0.1:5353".parse().unwrap()]);
        assert_eq!(read.profiles.keys().collect::<Vec<_>>(), ["a", "b", "default"]);
        let default = &read.profiles["default"];
        assert_eq!((default.validity.as_secs(), default.description.as_str()), (60, "a \"short\" one"));
        assert_eq!(default.denied_names, ["blocked.example", ".blocked.example"]);
        assert!(default.external_account_required && !default.reuse_authorizations && default.common_name);
        assert_eq!(read.profiles["b"].validity.as_secs(), VALIDITY);
    }

    #[test]
    fn what_chancery_does_not_have_is_refused() {
        let algorithm = Configuration { key_algorithm: Some("dsa".to_owned()), ..configuration() };
        let nowhere = Configuration { listen: "localhost".to_owned(), ..configuration() };
        for (wrong, part) in [(algorithm, "\"dsa\""), (nowhere, "has no port")] {
            let text = plan(&wrong, &[]).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_called_localhost() {
        for (address, called, bound) in [
            ("0.0.0.0:1", "localhost:1", "0.0.0.0:1"),
            (":2", "localhost:2", "0.0.0.0:2"),
            ("[::]:3", "localhost:3", "[::]:3"),
            ("[::1]:4", "[::1]:4", "[::1]:4"),
            ("127.0.0.1:5", "127.0.0.1:5", "127.0.0.1:5"),
        ] {
            assert_eq!((host(address).unwrap().as_str(), listen(address).as_str()), (called, bound));
        }
    }
}
