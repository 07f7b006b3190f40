//! What a use case may answer instead of what was asked for. `http/problem.rs` turns each into a problem document.

use thiserror::Error;

use crate::acme::external_account::KeyState;
use crate::acme::id::AccountId;
use crate::acme::identifier::IdentifierError;
use crate::acme::message::MessageError;
use crate::acme::order::OrderStatus;
use crate::acme::problem::Subproblem;
use crate::jose::BindingError;
use crate::limits::Exceeded;
use crate::pki::csr::CsrError;
use crate::storage::StorageError;

/// Why a use case did not do what was asked.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The server's own trouble: logged, and told without detail.
    #[error("{0}")]
    Internal(String),
    /// The request cannot be granted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A store is away; the same request may succeed in a moment.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StorageError> for ServiceError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(why) => Self::Unavailable(why),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<BindingError> for ServiceError {
    fn from(error: BindingError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<MessageError> for ServiceError {
    fn from(error: MessageError) -> Self {
        Self::Refused(error.into())
    }
}

/// What is wrong with a request, in words that help its sender.
#[derive(Debug, Error)]
pub enum Refusal {
    /// new-account with the key of an account that was given up.
    #[error("the account of this key is deactivated")]
    AccountDeactivated,
    /// new-account or key-change with a key that was shown to be compromised (CRT-05).
    #[error(
        "this key was shown to be compromised when a certificate of it was revoked; make a new account key"
    )]
    AccountKeyBlocked,
    /// finalize by an account whose key is compromised since it has it (CRT-05).
    #[error(
        "the account's key was shown to be compromised when a certificate of it was revoked: give the account a new \
         key (keyChange), then finalize again"
    )]
    AccountKeyCompromised,
    /// `onlyReturnExisting`, and there is none (RFC 8555 §7.3.1).
    #[error("no account exists for this key")]
    AccountDoesNotExist,
    /// An order under a profile that requires a binding, by an account without one (EAB-01). Accounts are bound when
    /// they are made (RFC 8555 §7.3.4).
    #[error(
        "profile {0:?} is for accounts that are bound to an external account, and this one is not: register a new \
         account key with an \"externalAccountBinding\""
    )]
    AccountNotBound(String),
    /// The certificate is replaced by a live order (RFC 9773 §5).
    #[error("the certificate named in \"replaces\" is already replaced by another order")]
    AlreadyReplaced,
    /// RFC 8555 §7.6.
    #[error("the certificate is already revoked")]
    AlreadyRevoked,
    /// The reason is none that subscribers may give.
    #[error("revocation reason {0} is not supported; 0, 1, 3, 4, 5 and 9 are")]
    BadRevocationReason(i64),
    /// The external account binding is not one (EAB-02).
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The CSR breaks a rule of its own.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The CSR is for the account's key (RFC 8555 §11.1).
    #[error("the CSR's key is an account's key; a certificate needs a key of its own")]
    CsrAccountKey,
    /// The key was shown to be compromised.
    #[error("the CSR's key was reported compromised; make a new key")]
    CsrBlockedKey,
    /// The CSR's names are not the order's (RFC 8555 §7.4).
    #[error("the CSR's names must be exactly the order's identifiers: {0}")]
    CsrNames(String),
    /// A contact URL's address is not one.
    #[error("the contact {0:?} is not valid: mailto: with one address and nothing else")]
    InvalidContact(String),
    /// No such profile.
    #[error("there is no profile {0:?}; the directory's meta lists those there are")]
    InvalidProfile(String),
    /// The external account key binds no further account (EAB-03).
    #[error("the external account key {}; ask the operator for another one", ended(*.0))]
    ExternalAccountKeyEnded(KeyState),
    /// The external account key is for another profile.
    #[error("the external account key is for profile {bound:?}, not for {wanted:?}")]
    ExternalAccountProfile {
        /// The key's profile.
        bound: String,
        /// The profile asked for.
        wanted: String,
    },
    /// new-account without a binding where the profile requires one (RFC 8555 §7.3.4).
    #[error(
        "accounts of profile {0:?} need an \"externalAccountBinding\": ask the operator for a key identifier and an \
         HMAC key, and give both to your client"
    )]
    ExternalAccountRequired(String),
    /// One or more identifiers cannot be had. If only one kind of problem occurred, that is the type.
    #[error("{}", identifiers_detail(.0))]
    Identifiers(Vec<Subproblem>),
    /// The new key belongs to an account (RFC 8555 §7.3.5).
    #[error("the new key is already in use by an account")]
    KeyInUse(AccountId),
    /// A rule that needs no variant of its own; the text says it all.
    #[error("{0}")]
    Malformed(String),
    /// A member is missing, or has the wrong type.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The resource does not exist.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// finalize of an order that is not ready (RFC 8555 §7.4).
    #[error("the order is {}, not ready", .0.as_str())]
    OrderNotReady(OrderStatus),
    /// A limit is reached; the request may be repeated in a while (RFC 8555 §6.6).
    #[error(transparent)]
    RateLimited(Box<Exceeded>),
    /// The request names something of another account's, or may not be made by this one.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// A contact URL of another scheme.
    #[error("the contact {0:?} is not supported: mailto: URLs are")]
    UnsupportedContact(String),
    /// The terms of service are not agreed to (RFC 8555 §7.3.3).
    #[error("the terms of service must be agreed to: {0}")]
    UserActionRequired(String),
}

fn ended(state: KeyState) -> &'static str {
    match state {
        KeyState::Expired => "has expired",
        KeyState::Live => "was used by another request",
        KeyState::Revoked => "was revoked",
        KeyState::Used => "has been used as often as it may be",
    }
}

fn identifiers_detail(subproblems: &[Subproblem]) -> String {
    match subproblems {
        [one] => format!("{} {}: {}", one.identifier.0, one.identifier.1, one.detail),
        many => format!("{} identifiers cannot be had; see the subproblems", many.len()),
    }
}

impl Refusal {
    /// A refusal of one identifier that could not be read.
    pub fn identifier(kind: &str, value: &str, error: &IdentifierError) -> Subproblem {
        use crate::acme::problem::{ProblemType, printable};
        let problem = match error {
            IdentifierError::UnsupportedType(_) => ProblemType::UnsupportedIdentifier,
            _ => ProblemType::Malformed,
        };
        let identifier = (printable(kind.as_bytes(), 32), printable(value.as_bytes(), 256));
        Subproblem { kind: problem, detail: error.to_string(), identifier }
    }
}
