//! Certification Authority Authorization (RFC 8659, RFC 8657; AUT-14): whether the holder of a name lets this CA issue.
//! Lookups that fail are not taken for consent.

use futures_util::StreamExt;
use futures_util::stream;
use thiserror::Error;

use crate::acme::challenge::ChallengeType;
use crate::acme::identifier::Identifier;
use crate::acme::problem::{Problem, ProblemType, printable};
use crate::network::Network;
use crate::network::answer::CaaRecord;

/// Properties that are understood, whether or not they bear on TLS certificates; a critical one of another tag forbids
/// issuance (RFC 8659 §4.1, RFC 9495, CA/B Forum BR appendix A).
const KNOWN_TAGS: [&str; 6] = ["issue", "issuewild", "issuemail", "iodef", "contactemail", "contactphone"];
/// How many levels of the tree are asked about at once.
const AT_ONCE: usize = 4;

/// What is to be issued, how it was validated, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct CaaRequest<'a> {
    /// The identifier, without `*.`.
    pub identifier: &'a Identifier,
    /// Whether it is for the wildcard of the name.
    pub wildcard: bool,
    /// The challenge that proved it; `None` where the account is trusted without one.
    pub method: Option<ChallengeType>,
    /// The URL of the account.
    pub account_url: &'a str,
    /// The domains by which CAA records name this CA, as in the directory's `caaIdentities`.
    pub issuer_domains: &'a [String],
    /// How far the tree is climbed.
    pub climb: &'a Climb,
}

/// How far the tree is climbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Climb {
    /// Zones that the operator owns, without a dot at the end: nothing above them is asked.
    pub stop_at: Vec<String>,
    /// How many levels are asked about. A name with more is forbidden without a question: above, records could forbid it.
    pub most_levels: usize,
}

impl Climb {
    /// `a.b.test`, `b.test`, `test`, as far up as is asked; `None` where that is too far.
    fn levels<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut levels = Vec::new();
        for level in
            std::iter::successors(Some(name), |level| level.split_once('.').map(|(_, parent)| parent))
        {
            if levels.len() == self.most_levels {
                return None;
            }
            levels.push(level);
            if self.stop_at.iter().any(|zone| zone.eq_ignore_ascii_case(level)) {
                break;
            }
        }
        Some(levels)
    }
}

/// Whether CAA lets this be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaaVerdict {
    /// It does.
    Permitted,
    /// It does not (`caa`).
    Forbidden(Problem),
    /// Nobody knows: a lookup failed (`dns`). Nothing is issued; trying again may help.
    Unknown(Problem),
}

/// Why a set of CAA records forbids.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CaaRefusal {
    /// It names us, but for another account (RFC 8657 §3).
    #[error("they allow this CA for another account only (accounturi)")]
    Account,
    /// It has a critical property that we do not know.
    #[error("they have the critical property \"{0}\", which this CA does not know")]
    CriticalTag(String),
    /// It names us, but for other ways of validation (RFC 8657 §4).
    #[error("they allow this CA for other validation methods only (validationmethods)")]
    Method,
    /// It does not name us.
    #[error("they do not name this CA: {0}")]
    NotNamed(String),
}

/// Climbs from the name to its topmost label, or to the zone where the operator stops the climb, and judges by the first set
/// of CAA records on the way (RFC 8659 §3). IP addresses have no CAA.
pub async fn check(request: &CaaRequest<'_>, network: &Network) -> CaaVerdict {
    let Identifier::Dns(name) = request.identifier else { return CaaVerdict::Permitted };
    let Some(levels) = request.climb.levels(name) else {
        let detail = format!(
            "{name} has more levels than CAA is looked up for, which is {} here (caa.max_levels)",
            request.climb.most_levels
        );
        return CaaVerdict::Forbidden(Problem::new(ProblemType::Caa, detail));
    };
    let mut levels = stream::iter(levels.into_iter().map(str::to_owned))
        .map(|level: String| async move { (network.caa(&level).await, level) })
        .buffered(AT_ONCE);
    while let Some((outcome, level)) = levels.next().await {
        let records = match outcome {
            Ok(records) if records.is_empty() => continue,
            Ok(records) => records,
            Err(error) => {
                let detail = format!(
                    "CAA for {name} could not be checked: {error}. In a network whose name servers know only zones of \
                     their own, the operator of this CA sets caa.stop_at to these zones, or caa.check to false"
                );
                return CaaVerdict::Unknown(Problem::new(ProblemType::Dns, detail));
            }
        };
        return match evaluate(&records, request) {
            Ok(()) => CaaVerdict::Permitted,
            Err(refusal) => {
                let what = if request.wildcard { "*." } else { "" };
                let detail = format!("the CAA records at {level} forbid {what}{name}: {refusal}");
                CaaVerdict::Forbidden(Problem::new(ProblemType::Caa, detail))
            }
        };
    }
    CaaVerdict::Permitted
}

/// What one non-empty set of CAA records says of a request (RFC 8659 §4).
pub fn evaluate(records: &[CaaRecord], request: &CaaRequest<'_>) -> Result<(), CaaRefusal> {
    let known = |tag: &str| KNOWN_TAGS.iter().any(|known| known.eq_ignore_ascii_case(tag));
    if let Some(record) = records.iter().find(|record| record.critical && !known(&record.tag)) {
        return Err(CaaRefusal::CriticalTag(printable(record.tag.as_bytes(), 32)));
    }
    let tagged = |tag: &str| -> Vec<&CaaRecord> {
        records.iter().filter(|record| record.tag.eq_ignore_ascii_case(tag)).collect()
    };
    // For a wildcard, issuewild takes the place of issue where there is any (RFC 8659 §4.3).
    let relevant = match tagged("issuewild") {
        wild if request.wildcard && !wild.is_empty() => wild,
        _ => tagged("issue"),
    };
    let mut refusal = None;
    for record in &relevant {
        match grants(&record.value, request) {
            Ok(()) => return Ok(()),
            // That we are named, but not for this, says more than that others are named too.
            Err(why) => {
                refusal = match (refusal.take(), why) {
                    (Some(earlier), CaaRefusal::NotNamed(_)) => Some(earlier),
                    (_, why) => Some(why),
                };
            }
        }
    }
    match refusal {
        None => Ok(()),
        Some(CaaRefusal::NotNamed(_)) => Err(CaaRefusal::NotNamed(shown(&relevant))),
        Some(why) => Err(why),
    }
}

/// Whether the value of one issue or issuewild property grants the request.
fn grants(value: &[u8], request: &CaaRequest<'_>) -> Result<(), CaaRefusal> {
    let not_named = || CaaRefusal::NotNamed(String::new());
    // A value that breaks the grammar counts as one that names nobody (RFC 8659 §4.2).
    let issue = IssueValue::parse(value).ok_or_else(not_named)?;
    if !request.issuer_domains.iter().any(|ours| ours.eq_ignore_ascii_case(issue.domain)) {
        return Err(not_named());
    }
    // A parameter of RFC 8657 that is there twice can be satisfied by nobody (§3, §4).
    let accounts: Vec<&str> = issue.values("accounturi").collect();
    if !accounts.iter().all(|account| accounts.len() == 1 && *account == request.account_url) {
        return Err(CaaRefusal::Account);
    }
    let method = request.method.map(ChallengeType::as_str);
    let lists: Vec<&str> = issue.values("validationmethods").collect();
    let names = |list: &str| list.split(',').any(|label| Some(label) == method);
    if !lists.iter().all(|list| lists.len() == 1 && names(list)) {
        return Err(CaaRefusal::Method);
    }
    Ok(())
}

/// `issue-value` of RFC 8659 §4.2.
struct IssueValue<'a> {
    /// Empty where nobody is named.
    domain: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> IssueValue<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (domain, parameters) = match text.split_once(';') {
            Some((domain, parameters)) => (trim(domain), trim(parameters)),
            None => (trim(text), ""),
        };
        if !domain.is_empty() && !domain.split('.').all(is_label) {
            return None;
        }
        let parameters = match parameters {
            "" => Vec::new(),
            some => some.split(';').map(parameter).collect::<Option<_>>()?,
        };
        Some(Self { domain, parameters })
    }

    fn values(&self, tag: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(tag))
            .map(|(_, value)| *value)
    }
}

fn parameter(text: &str) -> Option<(&str, &str)> {
    let (tag, value) = text.split_once('=')?;
    let (tag, value) = (trim(tag), trim(value));
    let good = is_label(tag) && value.bytes().all(|byte| matches!(byte, 0x21..=0x3a | 0x3c..=0x7e));
    good.then_some((tag, value))
}

/// The grammar's WSP.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The first few records, as a zone file has them.
fn shown(records: &[&CaaRecord]) -> String {
    let each = |record: &&CaaRecord| {
        format!("{} \"{}\"", printable(record.tag.as_bytes(), 16), printable(&record.value, 64))
    };
    let first: Vec<String> = records.iter().take(3).map(each).collect();
    let more = if records.len() > 3 { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests;
