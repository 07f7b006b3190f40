//! May this name be issued under this profile (ORD-03, design §6)?

use thiserror::Error;

use crate::acme::challenge::ChallengeType;
use crate::acme::identifier::Identifier;
use crate::acme::problem::ProblemType;
use crate::acme::profile::{AuthorizationMode, Profile};
use crate::policy::special::{Ours, nobodys};

/// Why a well-formed identifier is not issued.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameRefusal {
    /// The profile's list of denied names has it.
    #[error("the name is denied by the policy of profile {0:?}")]
    Denied(String),
    /// The profile asks for proof, and no challenge that it has can prove such a name.
    #[error("profile {0:?} has no challenge for such a name")]
    NoChallenge(String),
    /// IP addresses are off.
    #[error("profile {0:?} issues no certificates for IP addresses")]
    IpAddress(String),
    /// No host's in particular, or no host's at all.
    #[error("{0}")]
    Nobodys(&'static str),
    /// The profile has a list of allowed names, and this is not among them.
    #[error("the name is not among those that profile {0:?} may issue")]
    NotAllowed(String),
    /// One label only.
    #[error("the name needs at least two labels under profile {0:?}")]
    SingleLabel(String),
    /// Wildcards are off.
    #[error("profile {0:?} issues no wildcard certificates")]
    Wildcard(String),
}

impl NameRefusal {
    /// The error type: a form that is never accepted is `malformed`, the rest is policy.
    pub const fn kind(&self) -> ProblemType {
        match self {
            Self::SingleLabel(_) => ProblemType::Malformed,
            _ => ProblemType::RejectedIdentifier,
        }
    }
}

/// Says whether a certificate for `identifier` may be issued under `profile`, by an operator who says which special names and
/// addresses are `ours`.
pub fn check(identifier: &Identifier, profile: &Profile, ours: &Ours) -> Result<(), NameRefusal> {
    let name = || profile.name.clone();
    if let Some(why) = nobodys(identifier, ours, profile.onion_names) {
        return Err(NameRefusal::Nobodys(why));
    }
    match identifier {
        Identifier::Ip(_) if !profile.ip_addresses => return Err(NameRefusal::IpAddress(name())),
        Identifier::Dns(text) => {
            if identifier.is_wildcard() && !profile.wildcards {
                return Err(NameRefusal::Wildcard(name()));
            }
            if !text.trim_start_matches("*.").contains('.') && !profile.single_label_names {
                return Err(NameRefusal::SingleLabel(name()));
            }
        }
        Identifier::Ip(_) => {}
    }
    let value = identifier.base().value();
    // A wildcard stands for every name one label below its base: it is denied if any of these is.
    let denied = |pattern: &String| {
        matches(pattern, &value) || (identifier.is_wildcard() && parent(pattern) == Some(value.as_str()))
    };
    if profile.denied_names.iter().any(denied) {
        return Err(NameRefusal::Denied(name()));
    }
    // For the same reason a pattern that covers only the base does not allow it.
    let covered = |pattern: &String| {
        if identifier.is_wildcard() {
            below(pattern, &value) || *pattern == format!(".{value}")
        } else {
            matches(pattern, &value)
        }
    };
    if !profile.allowed_names.is_empty() && !profile.allowed_names.iter().any(covered) {
        return Err(NameRefusal::NotAllowed(name()));
    }
    if profile.authorization == AuthorizationMode::Challenge
        && challenge_types(identifier, profile).is_empty()
    {
        return Err(NameRefusal::NoChallenge(name()));
    }
    Ok(())
}

/// The challenges of a profile that can prove an identifier (AUT-05).
pub fn challenge_types(identifier: &Identifier, profile: &Profile) -> Vec<ChallengeType> {
    let fits = |kind: &ChallengeType| match identifier {
        // RFC 8555 §7.1.3: only DNS shows control of everything below a name. RFC 8738 §7: an address has no records.
        Identifier::Dns(_) if identifier.is_wildcard() => *kind == ChallengeType::Dns01,
        Identifier::Dns(_) => true,
        Identifier::Ip(_) => *kind != ChallengeType::Dns01,
    };
    profile.challenge_types.iter().copied().filter(fits).collect()
}

/// Whether an authorization that the challenge `by` made valid, or trust alone, counts under the profile as it is now.
pub fn is_proof(by: Option<ChallengeType>, identifier: &Identifier, profile: &Profile) -> bool {
    profile.authorization == AuthorizationMode::Trusted
        || by.is_some_and(|kind| challenge_types(identifier, profile).contains(&kind))
}

/// Whether `pattern` (a name, or `.suffix` for all below it) covers `value`.
fn matches(pattern: &str, value: &str) -> bool {
    pattern == value || below(pattern, value)
}

/// What a name is one label below; for `.suffix`, the suffix.
fn parent(pattern: &str) -> Option<&str> {
    pattern.split_once('.').map(|(_, parent)| parent)
}

fn below(pattern: &str, value: &str) -> bool {
    pattern.starts_with('.') && value.len() > pattern.len() && value.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::profile::KeyType;
    use std::time::Duration;

    fn profile(allowed: &[&str], denied: &[&str]) -> Profile {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Profile {
            name: "p".into(),
            description: String::new(),
            authorization: AuthorizationMode::Challenge,
            validity: Duration::from_secs(1),
            shortest_lifetime: Duration::ZERO,
            backdate: Duration::ZERO,
            key_types: KeyType::ALL.to_vec(),
            client_auth: false,
            policy_oid: None,
            common_name: false,
            allowed_names: list(allowed),
            denied_names: list(denied),
            wildcards: true,
            ip_addresses: false,
            single_label_names: false,
            onion_names: false,
            challenge_types: ChallengeType::ALL.to_vec(),
            external_account_required: false,
            reuse_authorizations: true,
        }
    }

    fn verdict(profile: &Profile, kind: &str, name: &str) -> Result<(), NameRefusal> {
        check(&Identifier::parse(kind, name).expect("well-formed"), profile, &Ours::default())
    }

    #[test]
    fn ord_03_what_no_challenge_can_prove_is_refused() {
        let with = |types: &[ChallengeType]| Profile {
            challenge_types: types.to_vec(),
            ip_addresses: true,
            ..profile(&[], &[])
        };
        let refused = Err(NameRefusal::NoChallenge("p".into()));
        let web = with(&[ChallengeType::Http01, ChallengeType::TlsAlpn01]);
        assert_eq!(verdict(&web, "dns", "a.test"), Ok(()));
        assert_eq!(verdict(&web, "ip", "192.0.2.1"), Ok(()));
        assert_eq!(verdict(&web, "dns", "*.a.test"), refused);
        let names = with(&[ChallengeType::Dns01]);
        assert_eq!(verdict(&names, "dns", "*.a.test"), Ok(()));
        assert_eq!(verdict(&names, "ip", "192.0.2.1"), refused);
        let trusting = Profile { authorization: AuthorizationMode::Trusted, ..with(&[]) };
        assert_eq!(verdict(&trusting, "ip", "192.0.2.1"), Ok(()));
    }

    #[test]
    fn ord_05_only_what_the_profile_asks_for_now_is_a_proof() {
        let name = Identifier::Dns("a.test".into());
        let wildcard = Identifier::Dns("*.a.test".into());
        let web = Profile { challenge_types: vec![ChallengeType::Http01], ..profile(&[], &[]) };
        assert!(is_proof(Some(ChallengeType::Http01), &name, &web));
        assert!(!is_proof(Some(ChallengeType::Dns01), &name, &web));
        assert!(!is_proof(None, &name, &web));
        let all = profile(&[], &[]);
        assert!(is_proof(Some(ChallengeType::Dns01), &wildcard, &all));
        assert!(!is_proof(Some(ChallengeType::Http01), &wildcard, &all));
        let trusting = Profile { authorization: AuthorizationMode::Trusted, ..web };
        for by in [None, Some(ChallengeType::Dns01)] {
            assert!(is_proof(by, &name, &trusting));
        }
    }

    #[test]
    fn ord_03_names_are_held_against_the_profile() {
        let open = profile(&[], &["bad.test", ".denied.test"]);
        assert_eq!(verdict(&open, "dns", "a.test"), Ok(()));
        assert_eq!(verdict(&open, "dns", "test"), Err(NameRefusal::SingleLabel("p".into())));
        assert_eq!(verdict(&open, "dns", "bad.test"), Err(NameRefusal::Denied("p".into())));
        assert_eq!(verdict(&open, "dns", "x.denied.test"), Err(NameRefusal::Denied("p".into())));
        assert_eq!(verdict(&open, "dns", "denied.test"), Ok(()));
        assert_eq!(verdict(&open, "ip", "192.0.2.1"), Err(NameRefusal::IpAddress("p".into())));
        for wildcard in ["*.denied.test", "*.x.denied.test", "*.bad.test"] {
            assert_eq!(verdict(&open, "dns", wildcard), Err(NameRefusal::Denied("p".into())), "{wildcard}");
        }
        let one = profile(&[], &["secret.b.test"]);
        assert_eq!(verdict(&one, "dns", "*.b.test"), Err(NameRefusal::Denied("p".into())));
        assert_eq!(verdict(&one, "dns", "*.a.b.test"), Ok(()));
        assert_eq!(verdict(&one, "dns", "other.b.test"), Ok(()));
        let listed = profile(&["exact.test", ".below.test"], &[]);
        assert_eq!(verdict(&listed, "dns", "exact.test"), Ok(()));
        assert_eq!(verdict(&listed, "dns", "a.b.below.test"), Ok(()));
        assert_eq!(verdict(&listed, "dns", "*.below.test"), Ok(()));
        for refused in ["*.exact.test", "below.test", "notbelow.test", "a.exact.test"] {
            assert_eq!(
                verdict(&listed, "dns", refused),
                Err(NameRefusal::NotAllowed("p".into())),
                "{refused}"
            );
        }
    }
}
