//! dns-01 (RFC 8555 §8.4; AUT-11): a digest of the key authorization is in a TXT record below the name.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding};

use crate::acme::identifier::Identifier;
use crate::acme::problem::{ProblemType, printable};
use crate::network::Network;
use crate::validation::{Attempt, Verdict};

/// How many wrong values are shown, and how much of each, in characters.
const SHOWN: (usize, usize) = (3, 80);

/// Looks the records up and compares. Any one of many may match: several orders may be under way at once.
pub async fn validate(attempt: &Attempt<'_>, network: &Network) -> Verdict {
    let Identifier::Dns(name) = attempt.identifier else {
        return Verdict::invalid(ProblemType::Unauthorized, "dns-01 cannot prove an IP address");
    };
    let name = format!("_acme-challenge.{name}");
    match network.txt(&name).await {
        Ok(values) => judge(&attempt.key_authorization(), &name, &values),
        // That there are none may pass as well: records take their time to spread.
        Err(error) => Verdict::retry(ProblemType::Dns, error.to_string()),
    }
}

/// Whether one of the TXT values at `name` is the digest of the key authorization. Every value is compared, each in
/// constant time.
pub fn judge(key_authorization: &str, name: &str, values: &[Vec<u8>]) -> Verdict {
    let expected = Base64UrlUnpadded::encode_string(digest(&SHA256, key_authorization.as_bytes()).as_ref());
    let equal = |value: &Vec<u8>| verify_slices_are_equal(value, expected.as_bytes()).is_ok();
    if values.iter().fold(false, |found, value| found | equal(value)) {
        return Verdict::Valid;
    }
    let (count, length) = SHOWN;
    let shown: Vec<String> =
        values.iter().take(count).map(|value| format!("\"{}\"", printable(value, length))).collect();
    let more =
        if values.len() > count { format!(" and {} more", values.len() - count) } else { String::new() };
    Verdict::invalid(
        ProblemType::IncorrectResponse,
        format!("the TXT records at {name} are {}{more}, but none is \"{expected}\"", shown.join(", ")),
    )
}

#[cfg(test)]
mod tests;
