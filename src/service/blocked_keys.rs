//! What follows from a compromised key (CRT-05): all its certificates are revoked, by any replica, until none is left.

use std::time::Duration;

use tokio::time::Instant;

use super::Services;
use super::refusal::ServiceError;
use crate::acme::account::Account;
use crate::jose::PublicKey;
use crate::pki;

/// Certificates a statement.
const PAGE: u32 = 50;

/// Pages of one key before it is the next one's turn.
const PAGES_A_TURN: usize = 20;

/// Keys a look.
const KEYS_A_LOOK: i64 = 64;

/// An issuance may have begun to be recorded just before its key was blocked: longer than a statement may take, so what
/// is not there by then will not come.
const SETTLING: Duration = Duration::from_secs(10);

/// The name of a key among those that are blocked, be it an account's or a certificate's.
pub(super) fn key_sha256(key: &PublicKey) -> String {
    pki::key::sha256(&key.spki_der())
}

/// The same of an account's key.
pub(super) fn account_key_sha256(account: &Account) -> Result<String, ServiceError> {
    let key = PublicKey::from_stored(&account.jwk);
    Ok(key_sha256(&key.map_err(|error| ServiceError::Internal(format!("a stored key: {error}")))?))
}

/// Revokes certificates of compromised keys, a bounded number of each; says whether it stopped before the end.
pub async fn revoke_certificates(services: &Services) -> Result<bool, ServiceError> {
    let mut more = false;
    for key in services.store.unsettled_keys(KEYS_A_LOOK).await? {
        let mut revoked = 0;
        let clean = 'turn: {
            for _ in 0..PAGES_A_TURN {
                let began = Instant::now();
                let page = services.store.revoke_certificates_of(&key, services.now(), PAGE).await?;
                if page == 0 {
                    break 'turn true;
                }
                revoked += page;
                // Clients come first, by half.
                tokio::time::sleep(began.elapsed()).await;
            }
            false
        };
        if revoked > 0 {
            tracing::info!(key_sha256 = key, certificates = revoked, "revoked with their compromised key");
            metrics::counter!("chancery_revocations_total").increment(u64::try_from(revoked).unwrap_or(0));
            services.crl_wanted.notify_one();
        }
        more |= !clean;
        if clean {
            let now = services.now();
            services.store.settle_key(&key, now, now.minus(SETTLING)).await?;
        }
    }
    Ok(more)
}
