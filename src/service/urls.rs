//! The URLs that are handed out: absolute, under the configured external URL, whatever a request's `Host` says (GEN-09).

use crate::acme::certificate::Serial;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId, OrderId};

/// Builds and reads the server's URLs.
#[derive(Clone, Debug)]
pub struct Urls {
    base: String,
    public: String,
}

impl Urls {
    /// URLs under `base` (no slash at its end); CRLs and issuer certificates under `public`.
    pub fn new(base: &str, public: &str) -> Self {
        let trim = |url: &str| url.trim_end_matches('/').to_owned();
        Self { base: trim(base), public: trim(public) }
    }

    /// The URL of a path that begins with a slash.
    pub fn of(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The path part of the external URL, which a balancer may leave on requests.
    pub fn prefix(&self) -> &str {
        let authority = self.base.find("://").map_or(0, |at| at + 3);
        self.base[authority..].find('/').map_or("", |at| &self.base[authority + at..])
    }

    /// A profile's directory; the default profile's is `/directory`.
    pub fn directory(&self, profile: Option<&str>) -> String {
        self.profiled(profile, "directory")
    }

    /// A resource that a profile's directory may have of its own, such as `new-order`.
    pub fn profiled(&self, profile: Option<&str>, resource: &str) -> String {
        match profile {
            Some(name) => self.of(&format!("/profiles/{name}/{resource}")),
            None => self.of(&format!("/{resource}")),
        }
    }

    /// An account, which is also its `kid`.
    pub fn account(&self, id: &AccountId) -> String {
        self.of(&format!("/account/{id}"))
    }

    /// Reads an account's URL back (JWS-11).
    pub fn parse_account(&self, url: &str) -> Option<AccountId> {
        AccountId::parse(url.strip_prefix(&self.base)?.strip_prefix("/account/")?)
    }

    /// An account's list of orders.
    pub fn orders(&self, id: &AccountId) -> String {
        self.of(&format!("/account/{id}/orders"))
    }

    /// An order.
    pub fn order(&self, id: &OrderId) -> String {
        self.of(&format!("/order/{id}"))
    }

    /// Where an order is finalized.
    pub fn finalize(&self, id: &OrderId) -> String {
        self.of(&format!("/order/{id}/finalize"))
    }

    /// An authorization.
    pub fn authorization(&self, id: &AuthorizationId) -> String {
        self.of(&format!("/authorization/{id}"))
    }

    /// A challenge.
    pub fn challenge(&self, id: &AuthorizationId, kind: ChallengeType) -> String {
        self.of(&format!("/challenge/{id}/{kind}"))
    }

    /// A certificate with its `alternate`th chain; 0 is the default.
    pub fn certificate(&self, serial: &Serial, alternate: usize) -> String {
        match alternate {
            0 => self.of(&format!("/certificate/{serial}")),
            n => self.of(&format!("/certificate/{serial}/{n}")),
        }
    }

    /// Where an issuer's CRL is.
    pub fn crl(&self, issuer_id: &str) -> String {
        format!("{}/crl/{issuer_id}.crl", self.public)
    }

    /// Where an issuer's own certificate is.
    pub fn issuer(&self, issuer_id: &str) -> String {
        format!("{}/issuer/{issuer_id}.der", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_urls_are_read_back_and_others_are_not() {
        let urls = Urls::new("https://ca.test/acme/", "http://ca.test");
        let id = AccountId::new();
        assert_eq!(urls.parse_account(&urls.account(&id)), Some(id.clone()));
        assert_eq!(urls.parse_account(&format!("https://other.test/acme/account/{id}")), None);
        assert_eq!(urls.parse_account(&format!("{}/orders", urls.account(&id))), None);
        assert_eq!((urls.prefix(), Urls::new("https://ca.test", "x").prefix()), ("/acme", ""));
    }
}
