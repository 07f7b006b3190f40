//! Authorizations and the validation jobs that they are (RFC 8555 §7.5, design I-3).

use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::accounts::account_is_valid;
use super::audit::PerRow;
use super::row::{self, AUTHORIZATION_COLUMNS, authorization_columns};
use super::statement::{parameters, statements};
use super::{Dialect, StorageError, Store, dialect, orders, placeholders};
use crate::acme::audit::Action;
use crate::acme::authorization::Authorization;
use crate::acme::challenge::ChallengeType;
use crate::acme::id::{AccountId, AuthorizationId, LeaseToken};
use crate::acme::identifier::Identifier;
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;

/// Whether every order that an authorization is for has ended: it expired, or cannot become ready any more. Never of an
/// authorization that no order has (RFC 8555 §7.4.1).
macro_rules! is_over {
    ($id:literal, $now:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM order_authorizations l WHERE l.authorization_id = ",
            $id,
            ") AND NOT EXISTS (SELECT 1 FROM order_authorizations l JOIN orders o ON o.id = l.order_id \
              WHERE l.authorization_id = ",
            $id,
            " AND (o.progress = 'open' AND o.expires_at > ",
            $now,
            ") IS TRUE AND NOT EXISTS (SELECT 1 FROM order_authorizations s JOIN authorizations y ON y.id = s.authorization_id \
              WHERE s.order_id = o.id AND (y.outcome NOT IN ('pending', 'valid') OR y.expires_at <= ",
            $now,
            ") IS TRUE)))"
        )
    };
}

/// The next account, in the order of their ids, with a validation by type $1 that waited at $3.
macro_rules! next_account {
    ($after:literal) => {
        concat!(
            "(SELECT z.account_id FROM authorizations z WHERE z.outcome = 'pending' AND z.attempted = $1 \
              AND z.lease_until IS NOT NULL AND (z.lease_until < $3) IS TRUE AND z.account_id > ",
            $after,
            " ORDER BY z.account_id LIMIT 1)"
        )
    };
}

// The state that a change expects is said as one truth value, so that the row is looked for by its key alone. Said term
// by term, it is a way through a partial index too, and a session that plans while the table is small may take that way
// for good: it then reads every authorization that is open.
statements! {
    /// The replica that accepts the response claims the job in the same statement.
    BEGIN_VALIDATION = "UPDATE authorizations SET attempted = $3, key_thumbprint = $4, lease_token = $5, \
        lease_until = $6, claims = 1, charged = $8 \
        WHERE id = $1 \
        AND (account_id = $2 AND outcome = 'pending' AND attempted IS NULL AND expires_at > $7) IS TRUE \
        AND ", account_is_valid!("$2"), " RETURNING id";
    /// Not where all orders that it is for have ended, or its account is deactivated: nobody wants to know any more.
    RENEW_VALIDATION = "UPDATE authorizations SET lease_until = $3 \
        WHERE id = $1 AND lease_token = $2 AND outcome = 'pending' AND ", account_is_valid!("authorizations.account_id"), " \
        AND NOT ", is_over!("$1", "$4"), " RETURNING id";
    VALIDATION_IS_OVER = "SELECT z.id FROM authorizations z WHERE z.id = $1 AND ", is_over!("$1", "$2");
    /// Not counted as a claim: whoever hands a job back has not died of it. It waits from now on, behind those that do.
    HAND_BACK_VALIDATION = "UPDATE authorizations SET lease_until = $3, claims = claims - 1 \
        WHERE id = $1 AND lease_token = $2 AND outcome = 'pending' RETURNING id";
    FINISH_VALIDATION = "UPDATE authorizations SET outcome = $3, validated_at = $4, expires_at = $5, error = $6, \
        lease_token = NULL, lease_until = NULL \
        WHERE id = $1 AND (lease_token = $2 AND outcome = 'pending' AND expires_at > $7) IS TRUE \
        AND ", account_is_valid!("authorizations.account_id"), " RETURNING id";
    DEACTIVATE_AUTHORIZATION = "UPDATE authorizations SET outcome = 'deactivated', lease_token = NULL, \
        lease_until = NULL WHERE id = $1 \
        AND (account_id = $2 AND outcome IN ('pending', 'valid') AND expires_at > $3) IS TRUE \
        AND ", account_is_valid!("$2"), " RETURNING id";
    /// No more than $2 are counted, those first that have waited longest.
    COUNT_VALIDATIONS = "SELECT COUNT(*), MIN(x.lease_until) FROM (SELECT z.lease_until FROM authorizations z \
        WHERE z.outcome = 'pending' AND z.attempted IS NOT NULL AND z.lease_until < $1 AND z.expires_at > $1 \
        ORDER BY z.lease_until LIMIT $2) x";
    /// From one account to the next by the index, however many jobs each has.
    ACCOUNTS_WITH_VALIDATIONS = "WITH RECURSIVE found (account_id, number) AS (SELECT ", next_account!("$2"), ", \
        CAST(1 AS BIGINT) UNION ALL SELECT ", next_account!("x.account_id"), ", x.number + 1 FROM found x \
        WHERE x.account_id IS NOT NULL AND x.number < $4) SELECT x.account_id FROM found x WHERE x.account_id IS NOT NULL";
}

/// The statements whose changes are events.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] = &[
    (orders::INSERT_AUTHORIZATION, None),
    (BEGIN_VALIDATION, None),
    (FINISH_VALIDATION, None),
    (DEACTIVATE_AUTHORIZATION, None),
];

/// As many waiting jobs are counted at most, so that to count costs the same however many there are.
pub const MOST_COUNTED: i64 = 1000;

const CLAIMED: &str = "id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, expires_at, token, \
    challenge_types, attempted, validated_at, error, created_at, key_thumbprint, claims, charged";

/// Takes an account's jobs whose lease has run out or was handed back, those first that nobody has had for longest.
pub(super) fn claim_statement(dialect: Dialect) -> String {
    let lock = if dialect == Dialect::Postgres { dialect::SKIP_LOCKED } else { "" };
    format!(
        concat!(
            "-- CLAIM_VALIDATIONS\nUPDATE authorizations SET lease_token = $1, lease_until = $2, claims = claims + 1 \
             WHERE id IN (SELECT id FROM authorizations WHERE outcome = 'pending' AND attempted = $5 AND account_id = $6 \
             AND lease_until IS NOT NULL AND (lease_until < $3 AND expires_at > $3) IS TRUE AND ",
            account_is_valid!("$6"),
            " ORDER BY lease_until LIMIT $4{lock}) RETURNING {claimed}"
        ),
        lock = lock,
        claimed = CLAIMED
    )
}

/// Finds valid authorizations of an account for any of `names` names.
pub(super) fn reusable_statement(names: usize) -> String {
    let names = placeholders(3, 1, names);
    format!(
        concat!(
            "-- REUSABLE_AUTHORIZATIONS\nSELECT ",
            authorization_columns!(),
            " FROM authorizations z WHERE z.account_id = $1 AND z.outcome = 'valid' AND z.validated_at IS NOT NULL AND z.expires_at > $2 \
              AND z.outcome IN ('pending', 'valid') AND z.identifier_value IN {} AND ",
            account_is_valid!("$1"),
            " ORDER BY z.expires_at DESC LIMIT 1000"
        ),
        names
    )
}

/// A challenge being validated: the authorization, and what the job needs to know beyond it.
#[derive(Clone, Debug)]
pub struct ValidationJob {
    /// The authorization; its `attempted` says which challenge.
    pub authorization: Authorization,
    /// The thumbprint that the key authorization is made of: the account's key when it responded (RFC 8555 §8.1).
    pub key_thumbprint: String,
    /// Who may record the result.
    pub lease: LeaseToken,
    /// How often the job was taken, this time included.
    pub claims: i64,
    /// The buckets that a failed validation was taken from, to be given back unless it fails; nothing if it was not.
    pub charged: Option<String>,
}

impl Store {
    /// Records that the client answered a challenge, and takes the job; `false` if the authorization is not pending,
    /// is expired, or has an attempt already (AUT-06).
    pub async fn begin_validation(
        &self,
        job: &ValidationJob,
        kind: ChallengeType,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        let authorization = &job.authorization;
        let values = parameters![
            &authorization.id,
            &authorization.account_id,
            kind.as_str(),
            &job.key_thumbprint,
            &job.lease,
            until,
            now,
            job.charged.clone()
        ];
        let event = self.event(Action::AuthorizationAccepted).account(&authorization.account_id);
        let event = event.authorization(&authorization.id).detail(json!({"type": kind.as_str()}));
        self.write_audited(BEGIN_VALIDATION, values, event).await
    }

    /// Accounts that have validations by a challenge type waiting, at most `limit`, in the order of their ids from `after` on.
    pub async fn accounts_with_validations(
        &self,
        kind: ChallengeType,
        after: &str,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<AccountId>, StorageError> {
        let values = parameters![kind.as_str(), after, now, limit];
        accounts(&self.read(ACCOUNTS_WITH_VALIDATIONS, values).await?, "authorizations")
    }

    /// Takes at most `limit` of an account's jobs by a challenge type whose lease ran out before `now`.
    pub async fn claim_validations(
        &self,
        kind: ChallengeType,
        account: &AccountId,
        now: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<ValidationJob>, StorageError> {
        let lease = LeaseToken::new();
        let values = parameters![&lease, until, now, limit, kind.as_str(), account];
        let rows = self.write(claim_statement(self.dialect), values).await?;
        rows.iter().map(|row| claimed(row, &lease)).collect()
    }

    /// Moves the end of a lease; `false` if it was lost, or if the work has become useless (see
    /// [`Store::validation_is_over`]): it must stop.
    pub async fn renew_validation(
        &self,
        id: &AuthorizationId,
        lease: &LeaseToken,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.write(RENEW_VALIDATION, parameters![id, lease, until, now]).await?.is_empty())
    }

    /// Whether every order that an authorization is for has ended without it.
    pub async fn validation_is_over(
        &self,
        id: &AuthorizationId,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.read(VALIDATION_IS_OVER, parameters![id, now]).await?.is_empty())
    }

    /// Ends a lease `now`, so that any replica may take the job from then on; `false` if it was lost.
    pub async fn hand_back_validation(
        &self,
        id: &AuthorizationId,
        lease: &LeaseToken,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.write(HAND_BACK_VALIDATION, parameters![id, lease, now]).await?.is_empty())
    }

    /// Records a validation's result under its lease; `false` if the lease was lost or the
    /// authorization expired meanwhile (AUT-02), and nothing is recorded.
    /// `expires_at` is the authorization's expiry from now on.
    pub async fn finish_validation(
        &self,
        job: &ValidationJob,
        result: Result<Timestamp, &Problem>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let (outcome, validated_at, error, action) = match result {
            Ok(at) => ("valid", Some(at), None, Action::AuthorizationValidated),
            Err(problem) => {
                ("invalid", None, Some(problem.to_json().to_string()), Action::AuthorizationFailed)
            }
        };
        let ValidationJob { authorization, claims, .. } = job;
        let values =
            parameters![&authorization.id, &job.lease, outcome, validated_at, expires_at, error, now];
        // The problem's detail may quote what the network answered; its type says enough.
        let event = self.event(action).account(&authorization.account_id).authorization(&authorization.id);
        let event = event.detail(json!({
            "identifier": authorization.ordered_identifier().value(),
            "type": authorization.attempted.map(ChallengeType::as_str),
            "problem": result.err().map(|problem| problem.kind.name()),
            "takings": Some(claims).filter(|claims| **claims > 1),
        }));
        self.write_audited(FINISH_VALIDATION, values, event).await
    }

    /// Deactivates a pending or valid authorization (RFC 8555 §7.5.2); `false` if it is neither.
    pub async fn deactivate_authorization(
        &self,
        id: &AuthorizationId,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let event = self.event(Action::AuthorizationDeactivated).account(account).authorization(id);
        self.write_audited(DEACTIVATE_AUTHORIZATION, parameters![id, account, now], event).await
    }

    /// Valid authorizations of an account, by a challenge, that last beyond `until`, for any of the names of `identifiers`, the longest
    /// lasting first (ORD-05, CRT-04).
    pub async fn valid_authorizations(
        &self,
        account: &AccountId,
        identifiers: &[Identifier],
        until: Timestamp,
    ) -> Result<Vec<Authorization>, StorageError> {
        let mut values = parameters![account, until];
        values.extend(identifiers.iter().map(|identifier| identifier.base().value().into()));
        let rows = self.read(reusable_statement(identifiers.len()), values).await?;
        rows.iter().filter_map(|row| row::authorization(row, 0).transpose()).collect()
    }

    /// Makes an authorization outside any order (RFC 8555 §7.4.1).
    pub async fn insert_authorization(&self, authorization: &Authorization) -> Result<(), StorageError> {
        let values = orders::authorization_parameters(authorization);
        let event = self.event(Action::AuthorizationCreated).account(&authorization.account_id);
        let identifier = authorization.ordered_identifier();
        let event = event.authorization(&authorization.id).detail(json!({
            "profile": authorization.profile,
            "identifier": identifier.value(),
        }));
        self.write_audited(orders::INSERT_AUTHORIZATION, values, event).await.map(|_| ())
    }

    /// How many validation jobs wait for a replica, counted up to [`MOST_COUNTED`], and since when the oldest does.
    pub async fn waiting_validations(
        &self,
        now: Timestamp,
    ) -> Result<(i64, Option<Timestamp>), StorageError> {
        waiting(&self.read(COUNT_VALIDATIONS, parameters![now, MOST_COUNTED]).await?)
    }
}

/// Reads a column of account ids.
pub(super) fn accounts(rows: &[AnyRow], table: &'static str) -> Result<Vec<AccountId>, StorageError> {
    let read = |row: &AnyRow| -> Result<AccountId, StorageError> {
        let id: String = row.try_get(0)?;
        AccountId::parse(&id).ok_or(StorageError::Corrupt { table, column: "account_id", row: id })
    };
    rows.iter().map(read).collect()
}

/// Reads what the counting statements answer.
pub(super) fn waiting(rows: &[AnyRow]) -> Result<(i64, Option<Timestamp>), StorageError> {
    let Some(row) = rows.first() else { return Ok((0, None)) };
    let oldest: Option<i64> = row.try_get(1)?;
    Ok((row.try_get(0)?, oldest.map(Timestamp::from_micros)))
}

fn claimed(row: &AnyRow, lease: &LeaseToken) -> Result<ValidationJob, StorageError> {
    let authorization = row::authorization(row, 0)?;
    let authorization = authorization.ok_or_else(|| StorageError::Corrupt {
        table: "authorizations",
        column: "id",
        row: String::new(),
    })?;
    Ok(ValidationJob {
        key_thumbprint: row.try_get(AUTHORIZATION_COLUMNS)?,
        claims: row.try_get(AUTHORIZATION_COLUMNS + 1)?,
        charged: row.try_get(AUTHORIZATION_COLUMNS + 2)?,
        authorization,
        lease: lease.clone(),
    })
}
