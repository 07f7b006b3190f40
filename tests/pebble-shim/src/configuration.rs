//! Pebble's configuration file. As Pebble reads it: key names whatever their case, unknown keys unseen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Failure;

/// What the file says.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Configuration {
    /// Where ACME is served.
    #[serde(rename = "listenaddress")]
    pub(crate) listen: String,
    /// Where the management interface is served; nowhere if empty.
    #[serde(rename = "managementlistenaddress")]
    pub(crate) management: Option<String>,
    /// The PEM chain of both listeners.
    pub(crate) certificate: PathBuf,
    /// Its key.
    #[serde(rename = "privatekey")]
    pub(crate) private_key: PathBuf,
    /// The port of http-01.
    #[serde(rename = "httpport")]
    pub(crate) http_port: u16,
    /// The port of tls-alpn-01.
    #[serde(rename = "tlsport")]
    pub(crate) tls_port: u16,
    /// A URL to be put into certificates.
    #[serde(rename = "ocspresponderurl")]
    pub(crate) ocsp: Option<String>,
    /// Whether accounts need an external account binding.
    #[serde(rename = "externalaccountbindingrequired")]
    pub(crate) binding_required: bool,
    /// HMAC keys in base64url by their identifiers.
    #[serde(rename = "externalaccountmackeys")]
    pub(crate) mac_keys: Option<BTreeMap<String, String>>,
    /// Issuer names for CAA.
    #[serde(rename = "caaidentities")]
    pub(crate) caa_identities: Option<Vec<String>>,
    /// Names for which, and below which, nothing is issued.
    #[serde(rename = "domainblocklist")]
    pub(crate) blocked: Option<Vec<String>>,
    /// `rsa` or `ecdsa`: the authority's keys.
    #[serde(rename = "keyalgorithm")]
    pub(crate) key_algorithm: Option<String>,
    /// Profiles by their names.
    pub(crate) profiles: Option<BTreeMap<String, Profile>>,
    /// What Pebble would say in `Retry-After`.
    #[serde(rename = "retryafter")]
    pub(crate) retry_after: Option<Value>,
    /// The validity of certificates in seconds, where there are no profiles (Pebble before 2.7).
    #[serde(rename = "certificatevalidityperiod")]
    pub(crate) validity: Option<u64>,
}

/// One profile.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Profile {
    /// What the directory says of it.
    pub(crate) description: String,
    /// Whether the first name is the common name.
    #[serde(rename = "promotecommonname")]
    pub(crate) common_name: bool,
    /// The validity of certificates in seconds; 0 is Pebble's default.
    #[serde(rename = "validityperiod")]
    pub(crate) validity: u64,
}

impl Configuration {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        Self::parse(&text).map_err(|error| failed(&error).into())
    }

    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let whole: Map<String, Value> = serde_json::from_str(text)?;
        let pebble = whole.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("pebble"));
        let mut pebble = pebble.map_or_else(|| Value::Object(Map::new()), |(_, value)| lower_case(value));
        // The names of profiles are data.
        if let Some(profiles) = pebble.get_mut("profiles").and_then(Value::as_object_mut) {
            profiles.values_mut().for_each(|profile| *profile = lower_case(profile.take()));
        }
        serde_json::from_value(pebble)
    }
}

/// An object with the names of its members in lower case.
fn lower_case(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_any_case_and_unknown_ones_are_not_seen() {
        let text = r#"{"pebble": {"listenAddress": "a:1", "IGNOREmanagementListenAddress": "b:2", "HTTPPort": 5,
            "externalAccountMACKeys": {"Kid-1": "x"}, "profiles": {"Own": {"ValidityPeriod": 7}}}}"#;
        let read = Configuration::parse(text).unwrap();
        assert_eq!((read.listen.as_str(), read.management, read.http_port), ("a:1", None, 5));
        assert_eq!(read.mac_keys.unwrap()["Kid-1"], "x");
        assert_eq!(read.profiles.unwrap()["Own"].validity, 7);
        assert_eq!(Configuration::parse("{}").unwrap(), Configuration::default());
        for wrong in ["", "[]", r#"{"pebble": {"httpPort": "80"}}"#] {
            assert!(Configuration::parse(wrong).is_err(), "{wrong}");
        }
    }
}
