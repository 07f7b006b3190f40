//! Finalization and the issuance jobs that it makes (RFC 8555 §7.4, design I-3 and I-4): two writes an order.

use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::accounts::account_is_valid;
use super::audit::{self, PerRow, event_parameters, run_audited};
use super::blocked_keys::key_is_free;
use super::row::{self, certificate_columns, write_identifiers};
use super::statement::{Parameter, parameters, run, statements};
use super::{Dialect, StorageError, Store, authorizations, dialect, orders::identifier_values};
use crate::acme::audit::{Action, Event};
use crate::acme::certificate::Certificate;
use crate::acme::id::{AccountId, LeaseToken, OrderId};
use crate::acme::order::Order;
use crate::acme::problem::Problem;
use crate::acme::time::Timestamp;

/// Serial `$1` and order `$2` are the same in both dialects; the rest is numbered where it stands.
macro_rules! begin_order {
    ($lease:literal, $until:literal, $account:literal, $now:literal, $key:literal, $account_key:literal) => {
        concat!(
            "UPDATE orders SET progress = 'processing', serial = $1, lease_token = ", $lease,
            ", lease_until = ", $until, ", claims = 1 WHERE id = $2 AND (account_id = ", $account,
            " AND progress = 'open' AND expires_at > ", $now, ") IS TRUE \
             AND NOT EXISTS (SELECT 1 FROM order_authorizations l LEFT JOIN authorizations z ON z.id = l.authorization_id \
               WHERE l.order_id = $2 AND (z.id IS NULL OR z.outcome <> 'valid' OR z.expires_at <= ", $now, ")) AND ",
            account_is_valid!($account), " AND ", key_is_free!($key, $account),
            " AND NOT EXISTS (SELECT 1 FROM blocked_keys WHERE key_sha256 = ", $account_key, ") RETURNING id"
        )
    };
}
macro_rules! reservation_columns {
    () => {
        "serial, order_id, account_id, profile, issuer_id, identifiers, key_sha256, public_key, not_before, not_after, \
         content"
    };
}
macro_rules! finish_order {
    ($key:literal, $account:literal) => {
        concat!(
            "UPDATE orders SET progress = 'valid', lease_token = NULL, lease_until = NULL \
             WHERE id = $1 AND (lease_token = $2 AND expires_at > $3) IS TRUE AND ",
            account_is_valid!($account),
            " AND ",
            key_is_free!($key, $account),
            " RETURNING id"
        )
    };
}

/// The next account, in the order of their ids, with an issuance that waited at $2.
macro_rules! next_account {
    ($after:literal) => {
        concat!(
            "(SELECT o.account_id FROM orders o WHERE o.progress = 'processing' AND o.lease_until IS NOT NULL \
              AND (o.lease_until < $2) IS TRUE AND o.account_id > ",
            $after,
            " ORDER BY o.account_id LIMIT 1)"
        )
    };
}

statements! {
    // Only an order in `processing` has a lease's token, so the token is the state that is expected. Saying `processing` as
    // well would let Postgres read the whole index of the jobs, which is short on the day when the plan is made.
    RENEW_ISSUANCE = "UPDATE orders SET lease_until = $3 \
        WHERE id = $1 AND lease_token = $2 RETURNING id";
    /// Not counted as a claim: whoever hands a job back has not died of it. It waits from now on, behind those that do.
    HAND_BACK_ISSUANCE = "UPDATE orders SET lease_until = $3, claims = claims - 1 \
        WHERE id = $1 AND lease_token = $2 RETURNING id";
    FAIL_ISSUANCE = "UPDATE orders SET progress = 'invalid', error = $3, lease_token = NULL, lease_until = NULL \
        WHERE id = $1 AND lease_token = $2 RETURNING id";
    /// An order that nobody has finalized.
    END_ORDER = "UPDATE orders SET progress = 'invalid', error = $3 \
        WHERE id = $1 AND (account_id = $2 AND progress = 'open' AND expires_at > $4) IS TRUE RETURNING id";
    RESERVATION = "SELECT ", certificate_columns!(), " FROM certificates c WHERE c.order_id = $1";
    /// No more than $2 are counted, those first that have waited longest.
    COUNT_ISSUANCES = "SELECT COUNT(*), MIN(x.lease_until) FROM (SELECT o.lease_until FROM orders o \
        WHERE o.progress = 'processing' AND o.lease_until < $1 AND o.expires_at > $1 \
        ORDER BY o.lease_until LIMIT $2) x";
    /// From one account to the next by the index, however many jobs each has.
    ACCOUNTS_WITH_ISSUANCES = "WITH RECURSIVE found (account_id, number) AS (SELECT ", next_account!("$1"), ", \
        CAST(1 AS BIGINT) UNION ALL SELECT ", next_account!("x.account_id"), ", x.number + 1 FROM found x \
        WHERE x.account_id IS NOT NULL AND x.number < $3) SELECT x.account_id FROM found x WHERE x.account_id IS NOT NULL";
}

const BEGIN_ORDER: &str = concat!("-- BEGIN_ORDER\n", begin_order!("$3", "$4", "$5", "$6", "$7", "$8"));
pub(super) const INSERT_RESERVATION: &str = concat!(
    "-- INSERT_RESERVATION\nINSERT INTO certificates (",
    reservation_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING serial"
);
const FINISH_ORDER: &str = concat!("-- FINISH_ORDER\n", finish_order!("$4", "$5"));
const RECORD_CERTIFICATE: &str = "-- RECORD_CERTIFICATE\nUPDATE certificates SET der = $2, issued_at = $3 \
     WHERE order_id = $1 AND der IS NULL RETURNING serial";

/// What Postgres says in one round trip: an order begins and its serial is on record; an order ends and its
/// certificate is on record.
pub(super) fn postgres_statements() -> [(&'static str, String); 2] {
    [("BEGIN_ISSUANCE", begin_statement()), ("FINISH_ISSUANCE", finish_statement())]
}

fn begin_statement() -> String {
    format!(
        concat!(
            "-- BEGIN_ISSUANCE\nWITH begun AS (",
            begin_order!("$12", "$13", "$3", "$14", "$7", "$15"),
            "), {audited} INSERT INTO certificates (",
            reservation_columns!(),
            ") SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
             CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS BYTEA), CAST($9 AS BIGINT), CAST($10 AS BIGINT), \
             CAST($11 AS TEXT) FROM begun RETURNING serial"
        ),
        audited = audit::arm(16, "begun", None)
    )
}

fn finish_statement() -> String {
    format!(
        concat!(
            "-- FINISH_ISSUANCE\nWITH done AS (",
            finish_order!("$5", "$6"),
            "), {audited} UPDATE certificates SET der = $4, issued_at = $3 \
             WHERE order_id IN (SELECT id FROM done) AND der IS NULL RETURNING serial"
        ),
        audited = audit::arm(7, "done", None)
    )
}

/// The statements whose changes are events; `postgres_statements` has more of them.
pub(super) const AUDITED: &[(&str, Option<PerRow>)] = &[(FAIL_ISSUANCE, None), (END_ORDER, None)];

/// Takes an account's issuance jobs whose lease has run out or was handed back, those first that nobody has had for longest.
pub(super) fn claim_statement(dialect: Dialect) -> String {
    let lock = if dialect == Dialect::Postgres { dialect::SKIP_LOCKED } else { "" };
    format!(
        "-- CLAIM_ISSUANCES\nUPDATE orders SET lease_token = $1, lease_until = $2, claims = claims + 1 \
         WHERE id IN (SELECT id FROM orders WHERE progress = 'processing' AND account_id = $5 \
         AND lease_until IS NOT NULL AND (lease_until < $3 AND expires_at > $3) IS TRUE ORDER BY lease_until LIMIT $4{lock}) RETURNING id, claims"
    )
}

/// What is put on record before a signature is made (I-4): everything that will be signed.
pub type Reservation = Certificate;

/// An order being issued, and who may record the result.
#[derive(Clone, Debug)]
pub struct IssuanceJob {
    /// The order.
    pub order_id: OrderId,
    /// Who may record the result.
    pub lease: LeaseToken,
    /// How often the job was taken, this time included.
    pub claims: i64,
}

pub(super) fn reservation_parameters(reservation: &Reservation) -> Vec<Parameter> {
    parameters![
        &reservation.serial,
        &reservation.order_id,
        &reservation.account_id,
        &reservation.profile,
        &reservation.issuer_id,
        write_identifiers(&reservation.identifiers),
        &reservation.key_sha256,
        reservation.public_key.clone(),
        reservation.not_before,
        reservation.not_after,
        reservation.content.as_ref().map(|content| content.to_json().to_string())
    ]
}

/// Logs an event if its change was made; says whether it was.
fn logged(changed: bool, event: &Event) -> bool {
    if changed {
        audit::log(event);
    }
    changed
}

impl Store {
    /// Takes a ready order into `processing` and puts its certificate-to-be on record, both or neither; `false` if the
    /// order is not ready, its account not valid, or the certificate's key or the account's (`account_key`, by its
    /// SHA-256) blocked (ORD-09, CRT-05). The caller holds the job until `until`.
    pub async fn begin_issuance(
        &self,
        reservation: Reservation,
        account: &AccountId,
        account_key: &str,
        lease: &LeaseToken,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        let values = reservation_parameters(&reservation);
        let event = self.event_of(Action::OrderProcessing, &reservation);
        let event = event.detail(json!({"key_sha256": reservation.key_sha256}));
        if self.dialect == Dialect::Postgres {
            let values =
                [values, parameters![lease, until, now, account_key], event_parameters(&event)].concat();
            return Ok(logged(!self.write(begin_statement(), values).await?.is_empty(), &event));
        }
        let begin = parameters![
            &reservation.serial,
            &reservation.order_id,
            lease,
            until,
            account,
            now,
            &reservation.key_sha256,
            account_key
        ];
        let (dialect, begun) = (self.dialect, event.clone());
        let changed = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if !run_audited(connection, dialect, BEGIN_ORDER, begin, &begun).await? {
                    return Ok(false);
                }
                run(connection, INSERT_RESERVATION.into(), values).await?;
                Ok(true)
            })
        }));
        Ok(logged(changed.await?, &event))
    }

    /// An event about what is on record for an order's certificate.
    fn event_of(&self, action: Action, reservation: &Reservation) -> Event {
        let event = self.event(action).account(&reservation.account_id);
        event.order(&reservation.order_id).serial(&reservation.serial)
    }

    /// Puts a certificate on record and makes its order valid, both or neither, under the lease; `false` if the lease
    /// was lost, the order expired, or the account may not have it any more: it was deactivated, or the certificate's key
    /// blocked.
    pub async fn finish_issuance(
        &self,
        job: &IssuanceJob,
        reservation: &Reservation,
        der: Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let finish = parameters![&job.order_id, &job.lease, now];
        let allowed = parameters![&reservation.key_sha256, &reservation.account_id];
        let event = self.event_of(Action::CertificateIssued, reservation).detail(json!({
            "profile": reservation.profile,
            "identifiers": identifier_values(&reservation.identifiers),
            "not_after": reservation.not_after.to_string(),
            "takings": Some(job.claims).filter(|claims| *claims > 1),
        }));
        if self.dialect == Dialect::Postgres {
            let values = [finish, parameters![der], allowed, event_parameters(&event)].concat();
            return Ok(logged(!self.write(finish_statement(), values).await?.is_empty(), &event));
        }
        let finish = [finish, allowed].concat();
        let record = parameters![&job.order_id, der, now];
        let (dialect, done) = (self.dialect, event.clone());
        let changed = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                if !run_audited(connection, dialect, FINISH_ORDER, finish, &done).await? {
                    return Ok(false);
                }
                Ok(!run(connection, RECORD_CERTIFICATE.into(), record).await?.is_empty())
            })
        }));
        Ok(logged(changed.await?, &event))
    }

    /// Ends an order without a certificate, under the lease; `false` if the lease was lost.
    pub async fn fail_issuance(
        &self,
        job: &IssuanceJob,
        reservation: Option<&Reservation>,
        problem: &Problem,
    ) -> Result<bool, StorageError> {
        let values = parameters![&job.order_id, &job.lease, problem.to_json().to_string()];
        let event = match reservation {
            Some(reservation) => self.event_of(Action::OrderFailed, reservation),
            None => self.event(Action::OrderFailed).order(&job.order_id),
        };
        let event = event.detail(json!({"problem": problem.kind.name()}));
        self.write_audited(FAIL_ISSUANCE, values, event).await
    }

    /// Ends an order that was not finalized, for a reason of the server's; `false` if it has gone on or is over.
    pub async fn end_order(
        &self,
        order: &Order,
        problem: &Problem,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let values = parameters![&order.id, &order.account_id, problem.to_json().to_string(), now];
        let event = self.event(Action::OrderFailed).account(&order.account_id).order(&order.id);
        let event = event.detail(json!({"problem": problem.kind.name()}));
        self.write_audited(END_ORDER, values, event).await
    }

    /// Accounts that have issuances waiting, at most `limit`, in the order of their ids from `after` on.
    pub async fn accounts_with_issuances(
        &self,
        after: &str,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<AccountId>, StorageError> {
        let values = parameters![after, now, limit];
        authorizations::accounts(&self.read(ACCOUNTS_WITH_ISSUANCES, values).await?, "orders")
    }

    /// Takes at most `limit` of an account's issuance jobs whose lease ran out before `now`.
    pub async fn claim_issuances(
        &self,
        account: &AccountId,
        now: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<IssuanceJob>, StorageError> {
        let lease = LeaseToken::new();
        let values = parameters![&lease, until, now, limit, account];
        let rows = self.write(claim_statement(self.dialect), values).await?;
        let read = |row: &AnyRow| -> Result<IssuanceJob, StorageError> {
            let id: String = row.try_get(0)?;
            let order_id = OrderId::parse(&id);
            let order_id =
                order_id.ok_or(StorageError::Corrupt { table: "orders", column: "id", row: id })?;
            Ok(IssuanceJob { order_id, lease: lease.clone(), claims: row.try_get(1)? })
        };
        rows.iter().map(read).collect()
    }

    /// Moves the end of an issuance's lease; `false` if it was lost.
    pub async fn renew_issuance(
        &self,
        order: &OrderId,
        lease: &LeaseToken,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.write(RENEW_ISSUANCE, parameters![order, lease, until]).await?.is_empty())
    }

    /// Ends an issuance's lease `now`, so that any replica may take the job from then on; `false` if it was lost.
    pub async fn hand_back_issuance(
        &self,
        order: &OrderId,
        lease: &LeaseToken,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        Ok(!self.write(HAND_BACK_ISSUANCE, parameters![order, lease, now]).await?.is_empty())
    }

    /// What is on record for an order's certificate: reserved or issued.
    pub async fn reservation(&self, order: &OrderId) -> Result<Option<Reservation>, StorageError> {
        let rows = self.read(RESERVATION, parameters![order]).await?;
        rows.first().map_or(Ok(None), |row| row::certificate(row, 0))
    }

    /// How many issuance jobs wait for a replica, counted as far as validations are, and since when the oldest does.
    pub async fn waiting_issuances(&self, now: Timestamp) -> Result<(i64, Option<Timestamp>), StorageError> {
        authorizations::waiting(
            &self.read(COUNT_ISSUANCES, parameters![now, authorizations::MOST_COUNTED]).await?,
        )
    }
}
