//! Account key roll-over (RFC 8555 §7.3.5).

use super::refusal::{Refusal, ServiceError};
use super::{Services, blocked_keys, limits};
use crate::acme::account::Account;
use crate::acme::message::KeyChange;
use crate::jose::PublicKey;
use crate::limits::Use;
use crate::storage::StorageError;

/// Replaces the account's key by `new_key`, which signed the inner JWS with `request` in it. The old key is dead on
/// every replica when this returns, since each request reads its account anew (KEY-03).
pub async fn key_change(
    services: &Services,
    account: &Account,
    new_key: &PublicKey,
    request: &KeyChange,
) -> Result<Account, ServiceError> {
    if request.account != services.urls.account(&account.id) {
        let detail =
            "\"account\" in the inner payload must be the URL of the account that signed the outer JWS";
        return Err(Refusal::Malformed(detail.to_owned()).into());
    }
    let old_key = PublicKey::from_jwk(&request.old_key).map_err(|error| {
        Refusal::Malformed(format!("\"oldKey\" in the inner payload cannot be read: {error}"))
    })?;
    if old_key.thumbprint() != account.key_thumbprint {
        let detail = "\"oldKey\" in the inner payload is not the account's present key";
        return Err(Refusal::Malformed(detail.to_owned()).into());
    }
    let thumbprint = new_key.thumbprint();
    if thumbprint == account.key_thumbprint {
        return Err(Refusal::KeyInUse(account.id.clone()).into());
    }
    let jwk = new_key.to_jwk();
    let held = services.limits.take(&[Use::key_change(&account.id)]).await?;
    let (old, key_sha256) = (&account.key_thumbprint, blocked_keys::key_sha256(new_key));
    let changed = services.store.change_key(&account.id, old, &thumbprint, &jwk, &key_sha256).await;
    if !matches!(changed, Ok(true)) {
        limits::refund_if_not_done(services, held, &changed).await;
    }
    match changed {
        Ok(true) => Ok(Account { key_thumbprint: thumbprint, jwk, ..account.clone() }),
        Ok(false) if services.store.key_is_blocked(&key_sha256).await? => {
            Err(Refusal::AccountKeyBlocked.into())
        }
        Ok(false) => Err(Refusal::Unauthorized("the account's key was changed by another request").into()),
        Err(StorageError::UniqueViolation) => match services.store.account_by_key(&thumbprint).await? {
            Some(owner) => Err(Refusal::KeyInUse(owner.id).into()),
            None => {
                Err(Refusal::Malformed("the new key was in use a moment ago; try again".to_owned()).into())
            }
        },
        Err(error) => Err(error.into()),
    }
}
