//! The kinds of value a setting takes, and how each is read from text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;

use crate::acme::identifier::Identifier;
use crate::service::SealingKey;

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `IP:PORT`.
    Address,
    /// `IP:PORT`, or `off`.
    AddressOrOff,
    /// A list of `IP:PORT`.
    Addresses,
    /// An absolute http or https URL without query, to which paths are appended.
    BaseUrl,
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A time span from the first to the second.
    Duration(Duration, Duration),
    /// A list of files.
    Files,
    /// A filter of log events.
    Filter,
    /// 32 octets in base64 or base64url.
    Key,
    /// An absolute http or https URL.
    Link,
    /// A list of DNS names; where the flag says so, `.NAME` is all below it.
    Names {
        /// Whether `.NAME` is understood.
        suffixes: bool,
    },
    /// A list of networks in CIDR form.
    Networks,
    /// A file or folder.
    Path,
    /// A URL that begins with one of these.
    Service(&'static [&'static str]),
    /// A line of text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words, at least one.
    Words(&'static [&'static str]),
}

/// A value as its source has it: text, or a list where the source can say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Text(String),
    List(Vec<String>),
}

/// A value that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Address(SocketAddr),
    Addresses(Vec<SocketAddr>),
    Boolean(bool),
    Count(u64),
    Duration(Duration),
    Files(Vec<PathBuf>),
    Networks(Vec<IpNet>),
    Path(PathBuf),
    Text(String),
    Texts(Vec<String>),
}

impl Raw {
    /// The value as a list: text is split at commas, and empty parts do not count.
    pub(super) fn items(&self) -> Vec<&str> {
        let trimmed = |text: &str| !text.trim().is_empty();
        match self {
            Self::Text(text) => text.split(',').filter(|part| trimmed(part)).map(str::trim).collect(),
            Self::List(list) => list.iter().map(|item| item.trim()).filter(|part| trimmed(part)).collect(),
        }
    }

    /// The value for a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(list) => list.join(","),
        }
    }
}

impl Kind {
    /// Whether the setting takes a list.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Addresses | Self::Files | Self::Names { .. } | Self::Networks | Self::Words(_))
    }

    /// Whether TOML writes the value without quotes.
    pub(super) const fn is_bare(self) -> bool {
        matches!(self, Self::Boolean | Self::Count(..))
    }

    /// Reads a value; an error says what the value should be, and never repeats it (it may be secret).
    pub(super) fn read(self, raw: &Raw) -> Result<Value, String> {
        if self.is_list() {
            return self.read_list(&raw.items());
        }
        match raw {
            Raw::Text(text) => self.read_one(text.trim()),
            Raw::List(_) => Err("this setting takes one value, not a list".to_owned()),
        }
    }

    fn read_one(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Address => read_address(text).map(Value::Address),
            Self::AddressOrOff if text == "off" => Ok(Value::Text(text.to_owned())),
            Self::AddressOrOff => {
                read_address(text).map(Value::Address).map_err(|error| format!("{error}, or off"))
            }
            Self::BaseUrl => read_url(text, false).map(Value::Text),
            Self::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err("this is either true or false".to_owned()),
            },
            Self::Count(least, most) => match text.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Value::Count(number)),
                _ => Err(format!("this is a whole number from {least} to {most}")),
            },
            Self::Duration(least, most) => match read_duration(text) {
                Some(span) if (least..=most).contains(&span) => Ok(Value::Duration(span)),
                Some(_) => {
                    Err(format!("this lies between {} and {}", write_duration(least), write_duration(most)))
                }
                None => {
                    Err("a time span is a whole number and a unit, such as 300ms, 10s, 5m, 1h or 7d"
                        .to_owned())
                }
            },
            Self::Filter => match text.parse::<tracing_subscriber::filter::Targets>() {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(error) => Err(format!(
                    "this is error, warn, info, debug or trace, or a filter such as \
                     info,chancery::validation=debug ({error})"
                )),
            },
            Self::Key if SealingKey::parse(text).is_some() => Ok(Value::Text(text.to_owned())),
            Self::Key => Err("this is 32 octets in base64: `openssl rand -base64 32` prints some".to_owned()),
            // Shown to people exactly as it was written.
            Self::Link => read_url(text, true).map(|_| Value::Text(text.to_owned())),
            Self::Path if text.is_empty() => Err("this is the path of a file or folder".to_owned()),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Service(schemes) => {
                if schemes.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme)) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err(format!("this URL begins with {}", alternatives(schemes)))
                }
            }
            Self::Text => {
                if text.len() <= 1024 && !text.chars().any(char::is_control) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err("this is one line of at most 1024 octets".to_owned())
                }
            }
            Self::Word(words) => read_word(text, words).map(Value::Text),
            Self::Addresses | Self::Files | Self::Names { .. } | Self::Networks | Self::Words(_) => {
                self.read_list(&[text])
            }
        }
    }

    fn read_list(self, items: &[&str]) -> Result<Value, String> {
        fn each<T>(items: &[&str], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
            items.iter().map(|item| read(item)).collect()
        }
        match self {
            Self::Addresses => each(items, read_address).map(Value::Addresses),
            Self::Files => Ok(Value::Files(items.iter().map(PathBuf::from).collect())),
            Self::Names { suffixes } => each(items, |item| read_name(item, suffixes)).map(Value::Texts),
            Self::Networks => each(items, read_network).map(Value::Networks),
            Self::Words(words) if items.is_empty() => {
                Err(format!("this needs at least one of {}", alternatives(words)))
            }
            Self::Words(words) => each(items, |item| read_word(item, words)).map(Value::Texts),
            _ => Err("this setting takes one value, not a list".to_owned()),
        }
    }
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address is IP:PORT, such as 127.0.0.1:14000, 0.0.0.0:14000 or [::]:14000".to_owned())
}

fn read_word(text: &str, words: &[&str]) -> Result<String, String> {
    if words.contains(&text) { Ok(text.to_owned()) } else { Err(format!("this is {}", alternatives(words))) }
}

/// Networks whose host bits are set are refused: they are mistakes, and which one is meant is not for us to guess.
fn read_network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| "a network is written like 10.0.0.0/8 or fd00::/8".to_owned())?,
    };
    if network.addr() == network.network() {
        Ok(network)
    } else {
        Err(format!(
            "the network {network} has bits set after its prefix; {} is the whole of it",
            network.trunc()
        ))
    }
}

fn read_name(text: &str, suffixes: bool) -> Result<String, String> {
    if let Some(parent) = text.strip_prefix("*.") {
        return Err(match suffixes {
            true => format!("write .{parent} for all names below {parent}"),
            false => "a wildcard is of no use here".to_owned(),
        });
    }
    let (dot, name) = match text.strip_prefix('.') {
        Some(_) if !suffixes => return Err("a leading dot is of no use here".to_owned()),
        Some(parent) => (".", parent),
        None => ("", text),
    };
    match Identifier::parse("dns", name) {
        Ok(identifier) => Ok(format!("{dot}{}", identifier.value())),
        Err(error) => Err(error.to_string()),
    }
}

/// An absolute http or https URL, in the one spelling that is handed out: host in lower case, no slash at the end.
fn read_url(text: &str, query: bool) -> Result<String, String> {
    let expected = "this is an absolute URL such as https://acme.example.com";
    let uri: Uri = text.parse().map_err(|_| expected.to_owned())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(expected.to_owned());
    };
    if !matches!(scheme, "http" | "https") || authority.host().is_empty() {
        return Err(format!("{expected}, with http or https"));
    }
    if authority.as_str().contains('@') {
        return Err("this URL must not hold a user name or password".to_owned());
    }
    // `Uri` drops a fragment silently.
    if text.contains('#') {
        return Err("this URL must not have a fragment".to_owned());
    }
    if uri.query().is_some() && !query {
        return Err("this URL must not have a query: paths are appended to it".to_owned());
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let authority = authority.as_str().to_ascii_lowercase();
    Ok(format!("{scheme}://{authority}{path}").trim_end_matches('/').to_owned())
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `300ms`, `10s`, `5m`, `1h`, `7d`: one whole number and one unit.
pub(super) fn read_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*milliseconds).map(Duration::from_millis)
}

/// Writes a whole number of milliseconds in the largest unit that fits.
pub(super) fn write_duration(span: Duration) -> String {
    let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, size): &&(&str, u64)| milliseconds >= *size && milliseconds.is_multiple_of(*size);
    match UNITS.iter().rev().find(fits) {
        Some((unit, size)) => format!("{}{unit}", milliseconds / size),
        None => "0s".to_owned(),
    }
}

/// `a, b or c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: Kind, text: &str) -> Result<Value, String> {
        kind.read(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn durations_are_one_number_and_one_unit() {
        for (text, milliseconds) in [
            ("300ms", 300),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            let span = read_duration(text).unwrap();
            assert_eq!(span, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(write_duration(span), text);
        }
        for text in [
            "",
            "10",
            "s",
            "1.5h",
            "-1s",
            "1h30m",
            "10 s",
            "1H",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(read_duration(text), None, "{text}");
        }
        let kind = Kind::Duration(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(one(kind, "60s"), Ok(Value::Duration(Duration::from_secs(60))));
        assert_eq!(one(kind, "61s"), Err("this lies between 1s and 1m".to_owned()));
    }

    #[test]
    fn gen_09_the_external_url_is_absolute_and_without_slash_or_query() {
        for (text, kept) in [
            ("https://ACME.example.com/", "https://acme.example.com"),
            ("http://127.0.0.1:14000", "http://127.0.0.1:14000"),
            ("https://[::1]:14000/", "https://[::1]:14000"),
            ("https://pki.example.com/ACME/", "https://pki.example.com/ACME"),
        ] {
            assert_eq!(one(Kind::BaseUrl, text), Ok(Value::Text(kept.to_owned())), "{text}");
        }
        for text in [
            "acme.example.com",
            "/acme",
            "ftp://acme.example.com",
            "https://",
            "https://acme.example.com/?a=b",
            "https://acme.example.com/#a",
            "https://me:secret@acme.example.com",
        ] {
            assert!(one(Kind::BaseUrl, text).is_err(), "{text}");
        }
        assert!(one(Kind::Link, "https://example.com/terms?v=2").is_ok());
    }

    #[test]
    fn lists_come_from_commas_or_from_a_list() {
        let networks = Value::Networks(vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
        assert_eq!(one(Kind::Networks, " 10.0.0.0/8, fd00::1,"), Ok(networks.clone()));
        let list = Raw::List(vec!["10.0.0.0/8".to_owned(), "fd00::1/128".to_owned()]);
        assert_eq!(Kind::Networks.read(&list), Ok(networks));
        assert!(one(Kind::Networks, "10.0.0.1/8").unwrap_err().contains("10.0.0.0/8 is the whole of it"));
        assert!(Kind::Boolean.read(&list).unwrap_err().contains("not a list"));
        assert_eq!(
            one(Kind::Words(&["a", "b"]), "b,a"),
            Ok(Value::Texts(vec!["b".to_owned(), "a".to_owned()]))
        );
        assert_eq!(one(Kind::Words(&["a", "b"]), ","), Err("this needs at least one of a or b".to_owned()));
    }

    #[test]
    fn names_are_exact_or_a_suffix() {
        let kind = Kind::Names { suffixes: true };
        assert_eq!(
            one(kind, "WWW.example.com,.lab.example.com"),
            Ok(Value::Texts(vec!["www.example.com".to_owned(), ".lab.example.com".to_owned()]))
        );
        assert_eq!(
            one(kind, "*.example.com"),
            Err("write .example.com for all names below example.com".to_owned())
        );
        for text in ["..example.com", "example..com", "10.0.0.1", "exa mple.com", "."] {
            assert!(one(kind, text).is_err(), "{text}");
        }
        assert!(one(Kind::Names { suffixes: false }, ".example.com").is_err());
    }

    #[test]
    fn an_error_never_repeats_the_value() {
        for kind in [Kind::Service(&["redis://"]), Kind::Link, Kind::Key, Kind::Count(1, 2), Kind::Address] {
            if let Err(reason) = one(kind, "hunter2:swordfish@example.com\u{7f}#") {
                assert!(!reason.contains("swordfish"), "{kind:?}: {reason}");
            }
        }
    }
}
