//! Rows that a test of the store alone begins with.

use chancery::acme::account::{Account, AccountStatus};
use chancery::acme::id::AccountId;
use chancery::acme::time::Timestamp;
use chancery::storage::Store;

/// A valid account on record, made at `created_at`. Its key is nobody's: nothing it has can be blocked.
pub async fn account(store: &Store, created_at: Timestamp) -> AccountId {
    let id = AccountId::new();
    let account = Account {
        id: id.clone(),
        key_thumbprint: id.to_string(),
        jwk: String::new(),
        status: AccountStatus::Valid,
        contacts: Vec::new(),
        terms_agreed_at: None,
        external_account: None,
        created_at,
    };
    assert!(store.insert_account(&account, id.as_str()).await.expect("a store"), "an account of that key");
    id
}
