//! External account binding (RFC 8555 §7.3.4): making keys, checking bindings, and which profiles a binding opens.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Services;
use super::random::fill_random;
use super::refusal::{Refusal, ServiceError};
use super::sealing::SealingKey;
use crate::acme::account::Account;
use crate::acme::external_account::{ExternalAccount, ExternalAccountKey, KeyState};
use crate::acme::id::ExternalAccountKid;
use crate::acme::profile::Profile;
use crate::acme::time::Timestamp;
use crate::jose::{Binding, BindingError, PublicKey};
use crate::storage::{Bound, Store};

/// How many octets a secret has: as many as HMAC-SHA-256's output (RFC 7518 §3.2).
const SECRET_OCTETS: usize = 32;

/// The fewest octets of a secret that an operator brings along.
pub const LEAST_SECRET_OCTETS: usize = 16;

/// A key that another authority gave out: its clients go on with what they have.
#[derive(Clone, Debug)]
pub struct GivenKey {
    /// Its name.
    pub kid: ExternalAccountKid,
    /// Its secret.
    pub secret: Zeroizing<Vec<u8>>,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its name and secret, where they are given; otherwise they are made.
    pub given: Option<GivenKey>,
    /// The profile that it is for; nothing for all.
    pub profile: Option<String>,
    /// How many accounts it binds; nothing for any number.
    pub uses: Option<u64>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
}

/// Makes a key. Answers it with its secret in base64url, which nobody can be told again.
pub async fn create(
    store: &Store,
    sealing: &SealingKey,
    now: Timestamp,
    new: NewKey,
) -> Result<(ExternalAccountKey, Zeroizing<String>), ServiceError> {
    let given = match new.given {
        Some(given) => given,
        None => {
            let mut secret = Zeroizing::new([0; SECRET_OCTETS]);
            fill_random(&mut *secret)?;
            fit_for_a_command_line(&mut secret);
            GivenKey { kid: ExternalAccountKid::new(), secret: Zeroizing::new(secret.to_vec()) }
        }
    };
    let key = ExternalAccountKey {
        kid: given.kid,
        profile: new.profile,
        uses_left: new.uses,
        expires_at: new.expires_at,
        revoked_at: None,
        created_at: now,
    };
    let sealed = sealing.seal(key.kid.as_str(), &given.secret);
    let sealed = sealed.ok_or_else(|| ServiceError::Internal("the secret could not be sealed".to_owned()))?;
    store.insert_external_account_key(&key, sealed).await?;
    Ok((key, Zeroizing::new(Base64UrlUnpadded::encode_string(&given.secret))))
}

/// Sees that the text of a secret does not begin with a hyphen, which certbot would take for an option of its own. It
/// costs one of 256 bits.
const fn fit_for_a_command_line(secret: &mut [u8; SECRET_OCTETS]) {
    secret[0] &= 0x7f;
}

/// Whether `sealing` is the key under which the live keys of the database were sealed, so that a replica with the wrong
/// one never starts. One key speaks for all: the newest, or the last by name of those that were taken over.
pub async fn check_sealing(store: &Store, sealing: Option<&SealingKey>) -> Result<(), ServiceError> {
    let Some((key, sealed)) = store.latest_external_account_key().await? else { return Ok(()) };
    match sealing {
        None => Err(ServiceError::Internal(
            "there are external account keys in the database, and eab.encryption_key is not set: give every replica \
             the one that they were made under, or withdraw them by `chancery eab revoke`"
                .to_owned(),
        )),
        Some(sealing) if sealing.open(key.kid.as_str(), &sealed).is_none() => {
            Err(ServiceError::Internal(cannot_open(&key.kid)))
        }
        Some(_) => Ok(()),
    }
}

fn cannot_open(kid: &ExternalAccountKid) -> String {
    format!(
        "the secret of the external account key {kid} was sealed under another eab.encryption_key (or another eab.key \
         in data_dir) than this replica has: give it that one, or withdraw the key by `chancery eab revoke {kid}`"
    )
}

/// What a new account is to be bound to: checks the binding that it offers, or that it needs none (EAB-01, EAB-02).
/// `url` and `account_key` are the outer JWS's; `directory` is the profile whose new-account it is.
pub(super) async fn check(
    services: &Services,
    offered: Option<&Value>,
    url: &str,
    account_key: &PublicKey,
    directory: Option<&str>,
) -> Result<Option<ExternalAccount>, ServiceError> {
    let profile = services.profile(None, directory)?;
    let Some(binding) = offered else {
        return match profile.external_account_required {
            true => Err(Refusal::ExternalAccountRequired(profile.name.clone()).into()),
            false => Ok(None),
        };
    };
    let external = check_offered(services, binding, url, account_key).await?;
    // Through a profile's own directory the client wants that profile; through the common one its orders may name any.
    if directory.is_some() {
        check_profile(&external, profile)?;
    }
    Ok(Some(external))
}

async fn check_offered(
    services: &Services,
    binding: &Value,
    url: &str,
    account_key: &PublicKey,
) -> Result<ExternalAccount, ServiceError> {
    let parsed = Binding::parse(binding, url, account_key)?;
    let found = match ExternalAccountKid::parse(parsed.kid()) {
        Some(kid) => services.store.external_account_key(&kid).await?,
        None => None,
    };
    let Some((key, sealed)) = found else {
        // As much work as a known key takes, and the same answer.
        let mut secret = [0; SECRET_OCTETS];
        fill_random(&mut secret)?;
        return match parsed.verify(&secret) {
            Err(error) => Err(error.into()),
            Ok(()) => Err(BindingError::NotAuthentic.into()),
        };
    };
    let opened = services.sealing.as_ref().and_then(|sealing| sealing.open(key.kid.as_str(), &sealed));
    let secret = opened.ok_or_else(|| ServiceError::Internal(cannot_open(&key.kid)))?;
    parsed.verify(&secret)?;
    // Only who holds the secret learns what became of the key.
    check_state(key.state(services.now()))?;
    Ok(ExternalAccount { kid: key.kid, profile: key.profile, binding: binding.clone() })
}

fn check_state(state: KeyState) -> Result<(), Refusal> {
    match state {
        KeyState::Live => Ok(()),
        ended => Err(Refusal::ExternalAccountKeyEnded(ended)),
    }
}

/// Keeps a new account that is bound to `external`. Says whether it was made; if not, its key has an account, or is blocked.
pub(super) async fn insert(
    services: &Services,
    account: &Account,
    key_sha256: &str,
    external: &ExternalAccount,
) -> Result<bool, ServiceError> {
    let now = services.now();
    match services.store.insert_bound_account(account, key_sha256, external, now).await? {
        Bound::Made => {
            count("bound");
            Ok(true)
        }
        Bound::KeyNotFree => Ok(false),
        Bound::NoUseLeft => {
            let found = services.store.external_account_key(&external.kid).await?;
            let state = found.map_or(KeyState::Revoked, |(key, _)| key.state(now));
            let ended = if state == KeyState::Live { KeyState::Used } else { state };
            Err(Refusal::ExternalAccountKeyEnded(ended).into())
        }
    }
}

/// Whether an account may order under a profile: one that requires a binding takes accounts that are bound to it, or to
/// no profile in particular.
pub(super) fn check_account(account: &Account, profile: &Profile) -> Result<(), Refusal> {
    if !profile.external_account_required {
        return Ok(());
    }
    match &account.external_account {
        None => Err(Refusal::AccountNotBound(profile.name.clone())),
        Some(external) => check_profile(external, profile),
    }
}

fn check_profile(external: &ExternalAccount, profile: &Profile) -> Result<(), Refusal> {
    match &external.profile {
        Some(bound) if profile.external_account_required && *bound != profile.name => {
            let (bound, wanted) = (bound.clone(), profile.name.clone());
            Err(Refusal::ExternalAccountProfile { bound, wanted })
        }
        _ => Ok(()),
    }
}

fn count(result: &'static str) {
    metrics::counter!("chancery_external_account_bindings_total", "result" => result).increment(1);
}

/// Counts what a new account was refused for, if it was for its binding.
pub(super) fn count_refusal(refusal: &Refusal) {
    count(match refusal {
        Refusal::Binding(BindingError::NotAuthentic) => "unauthentic",
        Refusal::Binding(_) => "malformed",
        Refusal::ExternalAccountKeyEnded(state) => state.as_str(),
        Refusal::ExternalAccountProfile { .. } => "profile",
        Refusal::ExternalAccountRequired(_) => "absent",
        _ => return,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_looks_like_an_option() {
        for first in 0..=u8::MAX {
            let mut secret = [0xff; SECRET_OCTETS];
            secret[0] = first;
            fit_for_a_command_line(&mut secret);
            assert!(!Base64UrlUnpadded::encode_string(&secret).starts_with('-'), "{first}");
        }
    }
}
