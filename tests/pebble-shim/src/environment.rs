//! Pebble's environment variables.

use crate::Failure;

/// What they ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Whether every challenge counts as met.
    pub(crate) always_valid: bool,
    /// Of a hundred nonces, how many are no good.
    pub(crate) spoiled_nonces: u32,
    /// Of a hundred valid authorizations, how many serve another order.
    pub(crate) reuse: u32,
    /// How many roots there are beside the first.
    pub(crate) alternate_roots: usize,
    /// How many certificates a chain has between leaf and root.
    pub(crate) chain_length: usize,
}

/// The share of nonces that Pebble refuses unless told otherwise.
const SPOILED_NONCES: u32 = 5;

/// How often Pebble reuses authorizations unless told otherwise.
const REUSE: u32 = 50;

/// The most roots beside the first, and the most certificates in a chain, that are made.
const MOST: usize = 8;

impl Environment {
    /// Reads them. Values that Pebble ignores are ignored.
    pub(crate) fn read(variables: impl Iterator<Item = (String, String)>) -> Result<Self, Failure> {
        let mut read = Self {
            always_valid: false,
            spoiled_nonces: SPOILED_NONCES,
            reuse: REUSE,
            alternate_roots: 0,
            chain_length: 1,
        };
        for (name, value) in variables.filter(|(name, _)| name.starts_with("PEBBLE_")) {
            let number = value.parse::<i64>().ok();
            match name.as_str() {
                "PEBBLE_VA_ALWAYS_VALID" => {
                    read.always_valid = matches!(value.as_str(), "1" | "true" | "True" | "TRUE");
                }
                "PEBBLE_WFE_NONCEREJECT" => {
                    // Pebble's own clipping.
                    let clipped = number.map(|n| if n > 100 { 99 } else { n.max(0) });
                    read.spoiled_nonces = clipped.and_then(|n| n.try_into().ok()).unwrap_or(SPOILED_NONCES);
                }
                "PEBBLE_AUTHZREUSE" => {
                    let within = number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 100);
                    read.reuse = within.unwrap_or(REUSE);
                }
                "PEBBLE_ALTERNATE_ROOTS" => read.alternate_roots = bounded(&name, &value, number, 0)?,
                "PEBBLE_CHAIN_LENGTH" => read.chain_length = bounded(&name, &value, number, 1)?,
                "PEBBLE_WFE_ORDERS_PER_PAGE" => {
                    return Err(format!(
                        "{name}={value} is not honoured: Chancery's lists of orders have pages of a \
                                        size that cannot be set; unset it"
                    )
                    .into());
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// A number from `least` to [`MOST`]; what is no number is as if it were not set.
fn bounded(name: &str, value: &str, number: Option<i64>, least: usize) -> Result<usize, Failure> {
    let Some(number) = number else { return Ok(least) };
    usize::try_from(number)
        .ok()
        .filter(|number| (least..=MOST).contains(number))
        .ok_or_else(|| format!("{name}={value} is not honoured: it must be {least} to {MOST}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, Failure> {
        Environment::read(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn variables_are_read_as_pebble_reads_them() {
        let plain = read(&[("PATH", "/bin"), ("PEBBLE_VA_NOSLEEP", "1")]).unwrap();
        assert_eq!((plain.spoiled_nonces, plain.reuse, plain.chain_length), (5, 50, 1));
        for (value, share) in [("0", 0), ("20", 20), ("-3", 0), ("101", 99), ("x", 5)] {
            assert_eq!(read(&[("PEBBLE_WFE_NONCEREJECT", value)]).unwrap().spoiled_nonces, share, "{value}");
        }
        assert!(read(&[("PEBBLE_VA_ALWAYS_VALID", "true")]).unwrap().always_valid);
        assert_eq!(read(&[("PEBBLE_AUTHZREUSE", "0")]).unwrap().reuse, 0);
        assert_eq!(read(&[("PEBBLE_ALTERNATE_ROOTS", "2")]).unwrap().alternate_roots, 2);
        for (name, value) in [
            ("PEBBLE_WFE_ORDERS_PER_PAGE", "15"),
            ("PEBBLE_CHAIN_LENGTH", "0"),
            ("PEBBLE_ALTERNATE_ROOTS", "9"),
        ] {
            assert!(read(&[(name, value)]).unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
