//! What goes wrong, told apart for the table of errors.

use http::StatusCode;

use crate::step::Step;

/// Why a flow, or the generator itself, did not get on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A step did not come to its end in time.
    #[error("{} took longer than allowed", .0.name())]
    Late(Step),
    /// The server answered with an error.
    #[error("{} was refused with {status} {kind}: {detail}", step.name())]
    Refused { step: Step, status: StatusCode, kind: String, detail: String },
    /// The generator could not start.
    #[error("{0}")]
    Setup(String),
    /// No answer came over the connection.
    #[error("{}: {cause}", step.name())]
    Transport { step: Step, cause: String },
    /// An answer of success that RFC 8555 does not allow here.
    #[error("{}: {what}", step.name())]
    Unexpected { step: Step, what: String },
    /// An authorization or an order ended `invalid`.
    #[error("{} found the object {status}: {kind}: {detail}", step.name())]
    WentInvalid { step: Step, status: String, kind: String, detail: String },
}

impl Failure {
    /// The line of the error table that this failure counts for.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Late(step) => format!("{}: late", step.name()),
            Self::Refused { step, status, kind, .. } => {
                format!("{}: {} {kind}", step.name(), status.as_u16())
            }
            Self::Setup(what) => format!("setup: {what}"),
            Self::Transport { step, cause } => format!("{}: transport: {cause}", step.name()),
            Self::Unexpected { step, what } => format!("{}: {what}", step.name()),
            Self::WentInvalid { step, status, kind, .. } => format!("{}: {status} {kind}", step.name()),
        }
    }
}
