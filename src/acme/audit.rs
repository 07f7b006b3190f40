//! The audit trail's values: who did what to which resource, from where, by which request. Nothing secret may stand in
//! an event: no token before its use, no key authorization, no key but public ones, no nonce, no contact.

use std::fmt;
use std::net::IpAddr;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::acme::certificate::Serial;
use crate::acme::id::{AccountId, AuthorizationId, OrderId};
use crate::acme::time::Timestamp;

/// Who brought a change about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// An account, by its key.
    Account(AccountId),
    /// The holder of a certificate's private key (RFC 8555 §7.6).
    CertificateKey,
    /// The operator, by a command.
    Operator,
    /// A replica by itself: a sweep, or a job that it took over.
    Replica,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account:{id}"),
            Self::CertificateKey => f.write_str("certificate-key"),
            Self::Operator => f.write_str("operator"),
            Self::Replica => f.write_str("replica"),
        }
    }
}

/// Where changes come from: a request, a command, or a replica by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who acts; `None` in a request whose signature is not yet checked, and in a replica's own work.
    pub actor: Option<Actor>,
    /// The id of the request, as `X-Request-Id` tells it to the client.
    pub request_id: Option<String>,
    /// The client's address.
    pub client_address: Option<IpAddr>,
}

impl Origin {
    /// A command of the operator.
    pub const fn operator() -> Self {
        Self { actor: Some(Actor::Operator), request_id: None, client_address: None }
    }

    /// A request of somebody who is not yet known.
    pub const fn request(id: String, client: IpAddr) -> Self {
        Self { actor: None, request_id: Some(id), client_address: Some(client) }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// All actions, in the order of their names.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it in the trail.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

actions! {
    /// An account changed its contacts (RFC 8555 §7.3.2).
    AccountContactsChanged = "account.contacts_changed";
    /// An account was made (RFC 8555 §7.3).
    AccountCreated = "account.created";
    /// An account was deactivated (RFC 8555 §7.3.6).
    AccountDeactivated = "account.deactivated";
    /// An account changed its key (RFC 8555 §7.3.5).
    AccountKeyChanged = "account.key_changed";
    /// The client responded to a challenge (RFC 8555 §7.5.1).
    AuthorizationAccepted = "authorization.accepted";
    /// An authorization was made outside any order (RFC 8555 §7.4.1).
    AuthorizationCreated = "authorization.created";
    /// An authorization was given up, by itself or with its account (RFC 8555 §7.5.2).
    AuthorizationDeactivated = "authorization.deactivated";
    /// A challenge was not fulfilled.
    AuthorizationFailed = "authorization.failed";
    /// Expired authorizations were deleted, as many as the detail counts.
    AuthorizationSwept = "authorization.swept";
    /// A challenge was fulfilled.
    AuthorizationValidated = "authorization.validated";
    /// A certificate was signed and is on record.
    CertificateIssued = "certificate.issued";
    /// The key of a certificate that was revoked already gave itself up, and gets no further one (RFC 8555 §7.6).
    CertificateKeyBlocked = "certificate.key_blocked";
    /// A revoked certificate's key was compromised: its reason says so now (RFC 5280 §5.3.1).
    CertificateReasonRaised = "certificate.reason_raised";
    /// The operator asked for a certificate to be renewed before its time (RFC 9773 §4.2).
    CertificateRenewalAsked = "certificate.renewal_asked";
    /// The serial of a certificate for the listener is on record.
    CertificateReserved = "certificate.reserved";
    /// A certificate was revoked (RFC 8555 §7.6).
    CertificateRevoked = "certificate.revoked";
    /// Expired certificates were deleted, as many as the detail counts.
    CertificateSwept = "certificate.swept";
    /// A key for external accounts was made (RFC 8555 §7.3.4).
    ExternalAccountKeyCreated = "external_account_key.created";
    /// Such a key was withdrawn.
    ExternalAccountKeyRevoked = "external_account_key.revoked";
    /// Such a key bound an account.
    ExternalAccountKeyUsed = "external_account_key.used";
    /// What was used of a limit was forgotten.
    LimitReset = "limit.reset";
    /// A key was taken its own capacity of a limit.
    LimitOverrideRemoved = "limit_override.removed";
    /// A key was given a capacity of its own of a limit.
    LimitOverrideSet = "limit_override.set";
    /// An order expired unfinished, and was marked so.
    OrderExpired = "order.expired";
    /// An order ended without a certificate.
    OrderFailed = "order.failed";
    /// An order was placed, with its new authorizations (RFC 8555 §7.4).
    OrderPlaced = "order.placed";
    /// An order was finalized, and its serial is on record.
    OrderProcessing = "order.processing";
    /// Orders that were over were deleted, as many as the detail counts.
    OrderSwept = "order.swept";
}

/// One entry of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name: a version 7 UUID without hyphens.
    pub id: String,
    /// When it happened, by the fleet's clock.
    pub at: Timestamp,
    /// Who did it: an [`Actor`]'s text.
    pub actor: String,
    /// What was done: an [`Action`]'s text, or that of a later version.
    pub action: String,
    /// The account that it concerns.
    pub account: Option<AccountId>,
    /// The order.
    pub order: Option<OrderId>,
    /// The authorization.
    pub authorization: Option<AuthorizationId>,
    /// The certificate.
    pub serial: Option<Serial>,
    /// The request's id, if a request was the cause.
    pub request_id: Option<String>,
    /// The client's address, if a request was the cause.
    pub client_address: Option<String>,
    /// What else is worth knowing: a small object.
    pub detail: Value,
}

impl Event {
    /// An event of `action` at `at`, by whoever `origin` names; a replica if it names nobody.
    pub fn new(action: Action, at: Timestamp, origin: Origin) -> Self {
        Self {
            id: uuid::Uuid::now_v7().simple().to_string(),
            at,
            actor: origin.actor.unwrap_or(Actor::Replica).to_string(),
            action: action.as_str().to_owned(),
            account: None,
            order: None,
            authorization: None,
            serial: None,
            request_id: origin.request_id,
            client_address: origin.client_address.map(|address| address.to_string()),
            detail: json!({}),
        }
    }

    /// The same by `actor`, whom nothing else names: an account that makes itself.
    #[must_use]
    pub fn by(self, actor: &Actor) -> Self {
        Self { actor: actor.to_string(), ..self }
    }

    /// The same about this account.
    #[must_use]
    pub fn account(self, id: &AccountId) -> Self {
        Self { account: Some(id.clone()), ..self }
    }

    /// The same about this order.
    #[must_use]
    pub fn order(self, id: &OrderId) -> Self {
        Self { order: Some(id.clone()), ..self }
    }

    /// The same about this authorization.
    #[must_use]
    pub fn authorization(self, id: &AuthorizationId) -> Self {
        Self { authorization: Some(id.clone()), ..self }
    }

    /// The same about this certificate.
    #[must_use]
    pub fn serial(self, serial: &Serial) -> Self {
        Self { serial: Some(*serial), ..self }
    }

    /// The same with this detail, an object. What is null in it is left out.
    #[must_use]
    pub fn detail(self, mut detail: Value) -> Self {
        if let Value::Object(members) = &mut detail {
            members.retain(|_, value| !value.is_null());
        }
        Self { detail, ..self }
    }

    /// When it happened, with microseconds (RFC 3339).
    pub fn at_text(&self) -> String {
        let seconds = self.at.to_string();
        format!("{}.{:06}Z", seconds.trim_end_matches('Z'), self.at.micros().rem_euclid(1_000_000))
    }
}

impl Serialize for Event {
    /// One JSON object, its members in this order.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_map(Some(11))?;
        event.serialize_entry("id", &self.id)?;
        event.serialize_entry("at", &self.at_text())?;
        event.serialize_entry("actor", &self.actor)?;
        event.serialize_entry("action", &self.action)?;
        event.serialize_entry("account", &self.account.as_ref().map(AccountId::as_str))?;
        event.serialize_entry("order", &self.order.as_ref().map(OrderId::as_str))?;
        event.serialize_entry("authorization", &self.authorization.as_ref().map(AuthorizationId::as_str))?;
        event.serialize_entry("serial", &self.serial.map(|serial| serial.to_string()))?;
        event.serialize_entry("request_id", &self.request_id)?;
        event.serialize_entry("client_address", &self.client_address)?;
        event.serialize_entry("detail", &self.detail)?;
        event.end()
    }
}

impl fmt::Display for Event {
    /// One line: when, what, by whom, of which resources, by which request and from where, and the detail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} by {}", self.at_text(), self.action, self.actor)?;
        let mut part = |name: &str, value: Option<&str>| match value {
            Some(value) => write!(f, " {name}={value}"),
            None => Ok(()),
        };
        part("account", self.account.as_ref().map(AccountId::as_str))?;
        part("order", self.order.as_ref().map(OrderId::as_str))?;
        part("authorization", self.authorization.as_ref().map(AuthorizationId::as_str))?;
        part("serial", self.serial.map(|serial| serial.to_string()).as_deref())?;
        part("request", self.request_id.as_deref())?;
        part("from", self.client_address.as_deref())?;
        match &self.detail {
            Value::Object(members) if members.is_empty() => Ok(()),
            detail => write!(f, " {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_who_what_which_and_from_where() {
        let account = AccountId::new();
        let origin = Origin {
            actor: Some(Actor::Account(account.clone())),
            ..Origin::request("r1".to_owned(), IpAddr::from([192, 0, 2, 1]))
        };
        let serial = Serial::from_random([7; 16]);
        let event = Event::new(Action::CertificateRevoked, Timestamp::from_micros(1_000_042), origin)
            .account(&account)
            .serial(&serial)
            .detail(json!({"reason": 4, "none": null}));
        let line = event.to_string();
        assert_eq!(
            line,
            format!(
                "1970-01-01T00:00:01.000042Z certificate.revoked by account:{account} account={account} \
                 serial={serial} request=r1 from=192.0.2.1 {{\"reason\":4}}"
            )
        );
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["order"], Value::Null);
        assert_eq!((json["request_id"].as_str(), json["detail"]["reason"].as_i64()), (Some("r1"), Some(4)));
        let own = Event::new(Action::OrderFailed, Timestamp::from_micros(0), Origin::default());
        assert_eq!((own.actor.as_str(), own.request_id), ("replica", None));
    }

    #[test]
    fn actions_have_different_names_in_order() {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
