//! The applicant's side of the challenges (RFC 8555 §8): what validators find at the names under order.

mod dns;
mod http01;
mod tlsalpn01;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

use crate::arguments::ChallengeKind;
use crate::failure::Failure;

/// SHA-256 of a key authorization (RFC 8555 §8.1).
pub(crate) type KeyAuthorizationDigest = [u8; 32];

/// What the responders serve at the moment.
pub(crate) struct Published {
    key_authorizations: Mutex<HashMap<String, String>>,
    digests: Mutex<HashMap<String, KeyAuthorizationDigest>>,
}

/// One challenge's answer; it is withdrawn when this is dropped.
pub(crate) struct Publication {
    published: Arc<Published>,
    kind: ChallengeKind,
    key: String,
}

impl Published {
    /// Nothing is served.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { key_authorizations: Mutex::default(), digests: Mutex::default() })
    }

    /// Serves the answer to the challenge `token` for `name` until the result is dropped.
    pub(crate) fn publish(
        self: &Arc<Self>,
        kind: ChallengeKind,
        name: &str,
        token: &str,
        thumbprint: &str,
    ) -> Publication {
        let key_authorization = format!("{token}.{thumbprint}");
        let key = if kind == ChallengeKind::Http01 {
            lock(&self.key_authorizations).insert(token.to_owned(), key_authorization);
            token.to_owned()
        } else {
            let mut sum = KeyAuthorizationDigest::default();
            sum.copy_from_slice(digest(&SHA256, key_authorization.as_bytes()).as_ref());
            lock(&self.digests).insert(name.to_owned(), sum);
            name.to_owned()
        };
        Publication { published: Arc::clone(self), kind, key }
    }

    /// The key authorization of an http-01 token under challenge.
    fn key_authorization(&self, token: &str) -> Option<String> {
        lock(&self.key_authorizations).get(token).cloned()
    }

    /// The digest that dns-01 and tls-alpn-01 ask for at a name (lower case).
    fn digest(&self, name: &str) -> Option<KeyAuthorizationDigest> {
        lock(&self.digests).get(name).copied()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.kind == ChallengeKind::Http01 {
            lock(&self.published.key_authorizations).remove(&self.key);
        } else {
            lock(&self.published.digests).remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the responder that `kind` needs, and the DNS responder, by which validators find it.
pub(crate) async fn start(
    kind: ChallengeKind,
    published: &Arc<Published>,
    http01: SocketAddr,
    tlsalpn01: SocketAddr,
    dns: SocketAddr,
) -> Result<(), Failure> {
    let refused = |what: &str, address: SocketAddr, error: &dyn std::fmt::Display| {
        Failure::Setup(format!("the {what} responder cannot listen on {address}: {error}"))
    };
    match kind {
        ChallengeKind::None => return Ok(()),
        ChallengeKind::Dns01 => {}
        ChallengeKind::Http01 => http01::start(http01, Arc::clone(published))
            .await
            .map_err(|error| refused("http-01", http01, &error))?,
        ChallengeKind::TlsAlpn01 => tlsalpn01::start(tlsalpn01, Arc::clone(published))
            .await
            .map_err(|error| refused("tls-alpn-01", tlsalpn01, &error))?,
    }
    dns::start(dns, Arc::clone(published)).await.map_err(|error| refused("DNS", dns, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_withdrawn_with_the_publication() {
        let published = Published::new();
        let http = published.publish(ChallengeKind::Http01, "a.test", "token", "thumb");
        assert_eq!(published.key_authorization("token").as_deref(), Some("token.thumb"));
        assert_eq!(published.digest("a.test"), None);
        let dns = published.publish(ChallengeKind::Dns01, "a.test", "token", "thumb");
        assert_eq!(published.digest("a.test").unwrap(), digest(&SHA256, b"token.thumb").as_ref());
        drop((http, dns));
        assert_eq!(published.key_authorization("token"), None);
        assert_eq!(published.digest("a.test"), None);
    }
}
