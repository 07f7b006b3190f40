//! Every refusal becomes a problem document here, and nowhere else (RFC 8555 §6.7).

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

use super::view;
use crate::acme::message::MessageError;
use crate::acme::problem::{Problem, ProblemType, Subproblem};
use crate::jose;
use crate::service::{Refusal, ServiceError};

/// A problem document and the headers that go with it.
#[derive(Debug)]
pub(super) struct Rejection {
    problem: Box<Problem>,
    retry_after: Option<u32>,
    location: Option<String>,
    link: Option<(String, &'static str)>,
}

/// The type of the problem in a response, for metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told(pub(super) ProblemType);

impl Rejection {
    /// The server cannot do this now, and the same request may be sent again (GEN-16).
    pub(super) fn unavailable(detail: &str, retry_after: u32) -> Self {
        let problem = Problem::new(ProblemType::RateLimited, detail).with_status(503);
        Self { retry_after: Some(retry_after), ..problem.into() }
    }

    /// A resource of another account (GEN-11).
    pub(super) fn not_yours() -> Self {
        Problem::new(ProblemType::Unauthorized, "this belongs to another account").into()
    }

    /// A resource that does not exist (GEN-11).
    pub(super) fn missing(what: &'static str) -> Self {
        Problem::malformed(format!("there is no such {what}")).with_status(404).into()
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry_after: None, location: None, link: None }
    }
}

impl From<jose::Error> for Rejection {
    fn from(error: jose::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<MessageError> for Rejection {
    fn from(error: MessageError) -> Self {
        Problem::malformed(error.to_string()).into()
    }
}

impl From<ServiceError> for Rejection {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => refused(&refusal, None),
            ServiceError::Unavailable(why) => {
                tracing::warn!(why, "a store is unavailable");
                Self::unavailable("the server cannot reach one of its stores; try again", 2)
            }
            ServiceError::Internal(why) => {
                tracing::error!(why, "internal error");
                Problem::new(ProblemType::ServerInternal, "the server failed; this was logged").into()
            }
        }
    }
}

/// The problem of a refusal. `account_url` tells KEY-02's owner.
pub(super) fn refused(refusal: &Refusal, account_url: Option<String>) -> Rejection {
    use ProblemType as P;
    let detail = refusal.to_string();
    let problem = |kind| Problem::new(kind, detail.clone());
    match refusal {
        Refusal::AccountKeyBlocked => problem(P::BadPublicKey).into(),
        Refusal::AccountDeactivated
        | Refusal::AccountKeyCompromised
        | Refusal::ExternalAccountKeyEnded(_)
        | Refusal::ExternalAccountProfile { .. }
        | Refusal::Unauthorized(_) => problem(P::Unauthorized).into(),
        Refusal::AccountDoesNotExist => problem(P::AccountDoesNotExist).into(),
        Refusal::AccountNotBound(_) | Refusal::ExternalAccountRequired(_) => {
            problem(P::ExternalAccountRequired).into()
        }
        Refusal::AlreadyReplaced => problem(P::AlreadyReplaced).into(),
        Refusal::AlreadyRevoked => problem(P::AlreadyRevoked).into(),
        Refusal::BadRevocationReason(_) => problem(P::BadRevocationReason).into(),
        Refusal::Binding(error) => problem(error.kind()).into(),
        Refusal::Csr(_) | Refusal::CsrAccountKey | Refusal::CsrBlockedKey | Refusal::CsrNames(_) => {
            problem(P::BadCsr).into()
        }
        Refusal::Identifiers(subproblems) => Problem::of_identifiers(detail, subproblems.clone()).into(),
        Refusal::InvalidContact(_) => problem(P::InvalidContact).into(),
        Refusal::InvalidProfile(_) => problem(P::InvalidProfile).into(),
        Refusal::KeyInUse(_) => {
            Rejection { location: account_url, ..problem(P::Malformed).with_status(409).into() }
        }
        Refusal::Malformed(_) | Refusal::Message(_) => problem(P::Malformed).into(),
        Refusal::NotFound(_) => problem(P::Malformed).with_status(404).into(),
        Refusal::OrderNotReady(_) => problem(P::OrderNotReady).into(),
        Refusal::RateLimited(exceeded) => {
            let mut problem = problem(P::RateLimited);
            if let Some(identifier) = &exceeded.identifier {
                let subproblem = Subproblem::of(P::RateLimited, detail.clone(), identifier);
                problem = problem.with_subproblems(vec![subproblem]);
            }
            Rejection {
                retry_after: Some(u32::try_from(exceeded.seconds).unwrap_or(u32::MAX)),
                link: Some((exceeded.help.clone(), "help")),
                ..problem.into()
            }
        }
        Refusal::UnsupportedContact(_) => problem(P::UnsupportedContact).into(),
        Refusal::UserActionRequired(terms) => Rejection {
            link: Some((terms.clone(), "terms-of-service")),
            ..problem(P::UserActionRequired).into()
        },
    }
}

/// The type that all subproblems share, else `malformed` if any is, else `rejectedIdentifier`.
impl IntoResponse for Rejection {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(serde_json::to_vec(&self.problem).unwrap_or_default()));
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        if let Some(url) = self.location.as_deref().and_then(|url| HeaderValue::from_str(url).ok()) {
            headers.insert(header::LOCATION, url);
        }
        if let Some((url, relation)) = &self.link {
            view::link(headers, url, relation);
        }
        response.extensions_mut().insert(Told(self.problem.kind));
        response
    }
}
