//! The steps of a flow.

/// What a latency belongs to: a request, or a span over several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// HEAD new-nonce, when the flow has no nonce left.
    NewNonce,
    /// POST new-account, before the load starts.
    NewAccount,
    /// POST new-order.
    NewOrder,
    /// POST-as-GET of an authorization, the first time.
    Authorization,
    /// POST `{}` to a challenge.
    Challenge,
    /// POST-as-GET of an authorization while its challenge is validated.
    AuthorizationPoll,
    /// POST finalize.
    Finalize,
    /// POST-as-GET of an order that is `processing`.
    OrderPoll,
    /// POST-as-GET of the certificate.
    Certificate,
    /// Span: challenge sent → authorization seen `valid`; contains the waits between polls.
    Validation,
    /// Span: finalize sent → order seen `valid`.
    Issue,
    /// Span: a whole flow; in the open loop from the instant at which it was due.
    Issuance,
}

impl Step {
    /// All steps, in the order of the table.
    pub(crate) const ALL: [Self; 12] = [
        Self::NewNonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::Authorization,
        Self::Challenge,
        Self::AuthorizationPoll,
        Self::Finalize,
        Self::OrderPoll,
        Self::Certificate,
        Self::Validation,
        Self::Issue,
        Self::Issuance,
    ];

    /// The step's name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NewNonce => "new-nonce",
            Self::NewAccount => "new-account",
            Self::NewOrder => "new-order",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::AuthorizationPoll => "authorization poll",
            Self::Finalize => "finalize",
            Self::OrderPoll => "order poll",
            Self::Certificate => "certificate",
            Self::Validation => "= challenge to valid",
            Self::Issue => "= finalize to valid",
            Self::Issuance => "= issuance",
        }
    }
}
