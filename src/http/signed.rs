//! Signed requests (RFC 8555 §6.2 to §6.5), checked in the order of design I-8: size and media type, shape, algorithm,
//! `url`, account, signature, nonce. Nothing is spent before the signature holds, and only then is there a payload.

use axum::extract::{OriginalUri, Request};
use axum::http::header;
use http_body_util::BodyExt;

use super::App;
use super::problem::Rejection;
use crate::acme::account::{Account, AccountStatus};
use crate::acme::audit::Actor;
use crate::acme::authorization::Authorization;
use crate::acme::certificate::{Certificate, Serial};
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::order::Order;
use crate::acme::problem::{Problem, ProblemType};
use crate::admission::Redemption;
use crate::jose::{Jws, KeyReference, PublicKey};
use crate::service::ServiceError;
use crate::storage::{StorageError, Store, audit};

/// A verified request of an account, with the resource that its URL names, if there is one.
pub(super) struct Signed<R> {
    /// Who signed.
    pub(super) account: Account,
    /// What the URL names; of whichever account.
    resource: Option<R>,
    /// The payload's octets.
    pub(super) payload: Vec<u8>,
}

/// What a request's URL may name. It is read together with the account, in one statement.
pub(super) trait Resource: Sized {
    /// What the URL has.
    type Key;
    /// In words.
    const NAME: &'static str;
    /// Reads account and resource.
    async fn read(
        store: &Store,
        account: &AccountId,
        key: &Self::Key,
    ) -> Result<Option<(Account, Option<Self>)>, StorageError>;
    /// Whose it is.
    fn owner(&self) -> &AccountId;
}

macro_rules! resources {
    ($($type:ty, $key:ty, $name:literal, $read:ident;)*) => {$(
        impl Resource for $type {
            type Key = $key;
            const NAME: &'static str = $name;
            async fn read(
                store: &Store,
                account: &AccountId,
                key: &$key,
            ) -> Result<Option<(Account, Option<Self>)>, StorageError> {
                store.$read(account, key).await
            }
            fn owner(&self) -> &AccountId {
                &self.account_id
            }
        }
    )*};
}

resources! {
    Authorization, AuthorizationId, "authorization", account_and_authorization;
    Certificate, Serial, "certificate", account_and_certificate;
    Order, OrderId, "order", account_and_order;
}

/// No resource but the account itself.
pub(super) struct Alone;

impl Resource for Alone {
    type Key = ();
    const NAME: &'static str = "resource";
    async fn read(
        store: &Store,
        account: &AccountId,
        (): &(),
    ) -> Result<Option<(Account, Option<Self>)>, StorageError> {
        Ok(store.account(account).await?.map(|account| (account, None)))
    }
    #[expect(clippy::unreachable, reason = "`read` never makes one")]
    fn owner(&self) -> &AccountId {
        unreachable!("there is no such value")
    }
}

impl<R: Resource> Signed<R> {
    /// The resource, which must be there and be the signer's (GEN-11).
    pub(super) fn resource(self) -> Result<(Account, R, Vec<u8>), Rejection> {
        let resource = self.resource.ok_or_else(|| Rejection::missing(R::NAME))?;
        if *resource.owner() != self.account.id {
            return Err(Rejection::not_yours());
        }
        Ok((self.account, resource, self.payload))
    }
}

/// A request that was read and whose shape is right, but whose signature is not yet checked.
pub(super) struct Unverified {
    /// The JWS.
    pub(super) jws: Jws,
    url: String,
}

impl App {
    /// Size, media type, shape, algorithm, `url`, and the nonce's shape. Touches no store.
    pub(super) async fn unverified(&self, request: Request) -> Result<Unverified, Rejection> {
        let url = self.official_url(&request);
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
        if media_type.is_none_or(|value| !value.eq_ignore_ascii_case("application/jose+json")) {
            return Err(Problem::malformed("the Content-Type must be application/jose+json (RFC 8555 §6.2)")
                .with_status(415)
                .into());
        }
        // The envelope has read it: whole, and bounded.
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(|_| Problem::malformed("the request body could not be read"))?;
        let body = body.to_bytes();
        let jws = Jws::parse(&body)?;
        match &jws.url {
            None => {
                return Err(Problem::malformed("the protected header has no \"url\" (RFC 8555 §6.4)").into());
            }
            Some(signed) if *signed != url => {
                let detail = format!("the protected header's \"url\" must be {url}, the URL of the request");
                return Err(Problem::new(ProblemType::Unauthorized, detail).into());
            }
            Some(_) => {}
        }
        if jws.nonce.is_none() || !jws.nonce_is_well_formed() {
            return Err(bad_nonce("it must be there and be base64url"));
        }
        Ok(Unverified { jws, url })
    }

    /// The URL that the request has under the external URL, whatever `Host` says (GEN-09).
    fn official_url(&self, request: &Request) -> String {
        let uri =
            request.extensions().get::<OriginalUri>().map_or_else(|| request.uri(), |original| &original.0);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        self.services.urls.of(path.strip_prefix(self.services.urls.prefix()).unwrap_or(path))
    }

    /// A request signed by an account's `kid`: everything but new-account and some revocations (JWS-05).
    pub(super) async fn signed<R: Resource>(
        &self,
        request: Request,
        key: R::Key,
    ) -> Result<Signed<R>, Rejection> {
        let unverified = self.unverified(request).await?;
        self.by_account(unverified, key).await
    }

    /// Checks a request that an account signed.
    pub(super) async fn by_account<R: Resource>(
        &self,
        unverified: Unverified,
        key: R::Key,
    ) -> Result<Signed<R>, Rejection> {
        let Unverified { jws, .. } = unverified;
        let kid = match &jws.key {
            KeyReference::Kid(kid) => kid,
            KeyReference::Jwk(key) => return Err(self.without_kid(&jws, key).await),
        };
        let unknown =
            || Problem::new(ProblemType::AccountDoesNotExist, "\"kid\" is no account of this server");
        let id = self.services.urls.parse_account(kid).ok_or_else(unknown)?;
        let read = R::read(&self.services.store, &id, &key).await.map_err(ServiceError::from)?;
        let (account, resource) = read.ok_or_else(unknown)?;
        let public_key = PublicKey::from_stored(&account.jwk)?;
        let payload = jws.verify(&public_key)?.to_vec();
        // Only the key's holder learns how the account stands (JWS-11).
        if account.status != AccountStatus::Valid {
            let detail = format!("the account is {}", account.status.as_str());
            return Err(Problem::new(ProblemType::Unauthorized, detail).into());
        }
        self.redeem(&jws).await?;
        audit::acts(Actor::Account(account.id.clone()));
        Ok(Signed { account, resource, payload })
    }

    /// The refusal of a request that an account should have signed by its `kid` (JWS-05). Clients who could not look
    /// their account up sign by the key instead, and some take a 400 for the end of their order: while the lookup would
    /// have been answered 503, so is this.
    async fn without_kid(&self, jws: &Jws, key: &PublicKey) -> Rejection {
        let possible = async {
            jws.verify(key)?;
            self.services.store.account_by_key(&key.thumbprint()).await.map_err(ServiceError::from)?;
            self.redeem(jws).await
        };
        match possible.await {
            Ok(()) => {
                Problem::malformed("this request must be signed with \"kid\", the account's URL").into()
            }
            Err(refusal) => refusal,
        }
    }

    /// Checks a request that carries its own key. Answers the payload and the key.
    pub(super) async fn by_key(&self, unverified: Unverified) -> Result<(Vec<u8>, PublicKey), Rejection> {
        let Unverified { jws, .. } = unverified;
        let KeyReference::Jwk(public_key) = &jws.key else {
            return Err(Problem::malformed("this request must be signed with \"jwk\", the key itself").into());
        };
        let payload = jws.verify(public_key)?.to_vec();
        self.redeem(&jws).await?;
        Ok((payload, public_key.clone()))
    }

    async fn redeem(&self, jws: &Jws) -> Result<(), Rejection> {
        let nonce = jws.nonce.as_deref().unwrap_or_default();
        match self.services.nonces.redeem(nonce).await {
            Ok(Redemption::Accepted) => Ok(()),
            Ok(Redemption::Refused(why)) => Err(bad_nonce(why.as_str())),
            Err(error) => {
                tracing::warn!(%error, "a nonce could not be redeemed");
                Err(Rejection::unavailable("the server cannot check nonces now; try again", 2))
            }
        }
    }
}

impl Unverified {
    /// The URL that the request was made to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

/// acme.sh knows this problem by the beginning of its detail (NON-03).
fn bad_nonce(why: &str) -> Rejection {
    Problem::new(ProblemType::BadNonce, format!("JWS has an invalid anti-replay nonce: {why}")).into()
}

/// A pure read: the payload must be the empty string (JWS-13).
pub(super) fn post_as_get(payload: &[u8]) -> Result<(), Rejection> {
    if payload.is_empty() {
        return Ok(());
    }
    Err(Problem::malformed("this resource is read by POST-as-GET: the payload must be empty (RFC 8555 §6.3)")
        .into())
}
