//! What a request may be charged: uses of limits by their keys.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::key;
use super::names::Limit;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId};
use crate::acme::identifier::Identifier;
use crate::acme::order::Order;

/// One use of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The limit.
    pub limit: Limit,
    /// Whose use it is: what the limit counts by.
    pub key: String,
    /// Whether it is only asked if there is one left.
    pub look: bool,
    /// The identifier that it is about, where it is about one.
    pub identifier: Option<Identifier>,
}

impl Use {
    fn taken(limit: Limit, key: String) -> Self {
        Self { limit, key, look: false, identifier: None }
    }

    /// The certificate of an order; none if limits do not count it (ARI-04).
    pub fn certificate(order: &Order) -> Option<Self> {
        (!order.exempt).then(|| Self::duplicate_certificate(&order.identifiers))
    }

    /// A certificate for exactly these identifiers.
    pub fn duplicate_certificate(identifiers: &[Identifier]) -> Self {
        Self::taken(Limit::DuplicateCertificates, key::identifier_set(identifiers))
    }

    /// A validation that may fail: taken when it begins, and given back unless it fails.
    pub fn failed_validation(account: &AccountId, identifier: &Identifier) -> Self {
        let key = key::account_and_identifier(account, identifier);
        Self { identifier: Some(identifier.clone()), ..Self::taken(Limit::FailedValidations, key) }
    }

    /// Whether another validation of each identifier may fail, with or without `*.`. It is only a look, which refuses
    /// early what would be refused later: what is limited is what a response to a challenge takes.
    pub fn may_fail<'a>(
        account: &AccountId,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
    ) -> Vec<Self> {
        let bases: BTreeSet<Identifier> = identifiers.into_iter().map(Identifier::base).collect();
        bases.iter().map(|identifier| Self::failed_validation(account, identifier).looked()).collect()
    }

    /// A validation, of whatever identifier and however it ends.
    pub fn validation(account: &AccountId) -> Self {
        Self::taken(Limit::Validations, account.to_string())
    }

    /// A change of the account's contacts.
    pub fn account_update(account: &AccountId) -> Self {
        Self::taken(Limit::AccountUpdates, account.to_string())
    }

    /// An authorization that the account gives up.
    pub fn deactivation(account: &AccountId) -> Self {
        Self::taken(Limit::Deactivations, account.to_string())
    }

    /// A revocation by this account.
    pub fn revocation(account: &AccountId) -> Self {
        Self::taken(Limit::Revocations, account.to_string())
    }

    /// A change of the account's key.
    pub fn key_change(account: &AccountId) -> Self {
        Self::taken(Limit::KeyChanges, account.to_string())
    }

    /// An account made from this address; for IPv6 a use of its site's, too.
    pub fn new_account(client: IpAddr) -> Vec<Self> {
        Self::of_address(Limit::NewAccounts, client)
    }

    /// A request from this address for an account that was not granted; for IPv6 a use of its site's, too.
    pub fn refused_account(client: IpAddr) -> Vec<Self> {
        Self::of_address(Limit::RefusedAccounts, client)
    }

    fn of_address(limit: Limit, client: IpAddr) -> Vec<Self> {
        let keys = std::iter::once(key::address(client)).chain(key::site(client));
        keys.map(|key| Self::taken(limit, key)).collect()
    }

    /// An order.
    pub fn new_order(account: &AccountId) -> Self {
        Self::taken(Limit::NewOrders, account.to_string())
    }

    /// A response to a challenge.
    pub fn response(authorization: &AuthorizationId, kind: ChallengeType) -> Self {
        Self::taken(Limit::ChallengeResponses, key::challenge(authorization, kind))
    }

    /// The same, only asked for.
    pub fn looked(self) -> Self {
        Self { look: true, ..self }
    }

    /// The name of its bucket.
    pub(super) fn bucket(&self) -> String {
        bucket(self.limit, &self.key)
    }
}

/// The name of the bucket of `key` under `limit`.
pub fn bucket(limit: Limit, key: &str) -> String {
    format!("{}:{key}", limit.name())
}
