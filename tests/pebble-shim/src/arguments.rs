//! Pebble's flags, in the forms that Go's `flag` package takes: `-name value`, `-name=value`, with one hyphen or two.

use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The usage.
    Help,
    /// To serve.
    Serve(Arguments),
    /// The version.
    Version,
}

/// How to serve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The file of the configuration.
    pub(crate) config: PathBuf,
    /// The resolver, where it is not the system's.
    pub(crate) resolver: Option<String>,
    /// Whether Pebble would be strict; Chancery always is.
    pub(crate) strict: bool,
}

pub(crate) const USAGE: &str = "\
Chancery in Pebble's shape, for test suites that start Pebble. tests/pebble-shim/README.md says what is honoured.

  -config FILE       Pebble's configuration (default test/config/pebble-config.json)
  -dnsserver ADDRESS the resolver that validation asks, such as 127.0.0.1:8053 (default: the system's)
  -strict            taken, without effect: Chancery is always strict
  -version           prints the version";

/// Reads the arguments after the program's name.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut read =
        Arguments { config: PathBuf::from("test/config/pebble-config.json"), resolver: None, strict: false };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Err(format!("invalid command line arguments: {argument}"));
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "config" | "dnsserver" => {
                let value = given.or_else(|| arguments.next());
                let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                match name {
                    "config" => read.config = PathBuf::from(value),
                    _ => read.resolver = Some(value).filter(|value| !value.is_empty()),
                }
            }
            "strict" => read.strict = flag_is_set(name, given.as_deref())?,
            "version" if flag_is_set(name, given.as_deref())? => return Ok(Wanted::Version),
            "version" => {}
            "h" | "help" => return Ok(Wanted::Help),
            _ => return Err(format!("flag provided but not defined: -{name}")),
        }
    }
    Ok(Wanted::Serve(read))
}

fn flag_is_set(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid boolean value {other:?} for -{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wanted, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_those_of_pebble() {
        let arguments = |config: &str, resolver: Option<&str>, strict| {
            let resolver = resolver.map(str::to_owned);
            Ok(Wanted::Serve(Arguments { config: config.into(), resolver, strict }))
        };
        assert_eq!(parsed(""), arguments("test/config/pebble-config.json", None, false));
        assert_eq!(parsed("-config a -strict -dnsserver :53"), arguments("a", Some(":53"), true));
        assert_eq!(parsed("--strict=false --config=a=b"), arguments("a=b", None, false));
        assert_eq!(parsed("-version"), Ok(Wanted::Version));
        assert_eq!(parsed("-strict --help"), Ok(Wanted::Help));
        for wrong in ["x", "-config", "-strict=perhaps", "-unknown", "-strict false"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
