//! What hangs on deactivated accounts (RFC 8555 §7.3.6). An account is deactivated by its one row, and from then on every
//! statement about its orders and authorizations finds them ended (`account_is_valid`). The leader ends them on record
//! too, by pages, each with its event (design I-12).

use serde_json::json;
use sqlx::Row;

use super::audit::{self, PerRow, audited_statement, run_audited_each};
use super::leader::Term;
use super::statement::{Parameter, parameters, statements};
use super::sweeps::{Swept, fence};
use super::{Cursor, Dialect, StorageError, Store};
use crate::acme::audit::Action;
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;

statements! {
    SWEEP_UNTIDIED_ACCOUNTS = "SELECT id, untidied_since FROM accounts WHERE untidied_since <= $1 \
        ORDER BY untidied_since, id LIMIT $2";
}

/// What hangs on an account, in the order in which it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hanging {
    /// Authorizations that are pending or valid, expired ones included: whatever a page looks at leaves its index.
    Authorizations,
    /// Orders that are not finalized. One that is being issued ends by its job.
    Orders,
}

impl Hanging {
    const ALL: [Self; 2] = [Self::Authorizations, Self::Orders];

    /// What is ended next.
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Authorizations => Some(Self::Orders),
            Self::Orders => None,
        }
    }

    const fn told(self) -> (Action, PerRow) {
        match self {
            Self::Authorizations => (Action::AuthorizationDeactivated, PerRow::Authorization),
            Self::Orders => (Action::OrderFailed, PerRow::Order),
        }
    }

    /// `what` of the rows of account `$1` from the cursor on: `$2`, and for authorizations `$3`.
    fn page(self, what: &str, limit: &str) -> String {
        match self {
            Self::Authorizations => format!(
                "SELECT {what} FROM authorizations z WHERE z.account_id = $1 AND z.outcome IN ('pending', 'valid') \
                 AND (z.identifier_value, z.expires_at) >= ($2, $3) \
                 ORDER BY z.identifier_value, z.expires_at LIMIT {limit}"
            ),
            Self::Orders => format!(
                "SELECT {what} FROM orders o WHERE o.account_id = $1 AND o.id > $2 ORDER BY o.id LIMIT {limit}"
            ),
        }
    }

    /// The last row of the page, if it is full.
    fn end(self) -> String {
        match self {
            Self::Authorizations => {
                let page = self.page("z.identifier_value, z.expires_at", "1 OFFSET $4");
                format!("-- SWEEP_DEACTIVATED_AUTHORIZATIONS_END\n{page}")
            }
            Self::Orders => {
                format!("-- SWEEP_DEACTIVATED_ORDERS_END\n{}", self.page("o.id, o.created_at", "1 OFFSET $3"))
            }
        }
    }

    /// Ends what is open of the page, under the fence.
    fn change(self) -> String {
        match self {
            Self::Authorizations => format!(
                "-- SWEEP_DEACTIVATED_AUTHORIZATIONS\nUPDATE authorizations SET outcome = 'deactivated', \
                 lease_token = NULL, lease_until = NULL WHERE id IN ({}) \
                 AND (outcome IN ('pending', 'valid')) IS TRUE AND {} RETURNING id",
                self.page("z.id", "$4"),
                fence(5)
            ),
            Self::Orders => format!(
                "-- SWEEP_DEACTIVATED_ORDERS\nUPDATE orders SET progress = 'invalid', error = $4 WHERE id IN ({}) \
                 AND (progress = 'open') IS TRUE AND {} RETURNING id, account_id",
                self.page("o.id", "$3"),
                fence(5)
            ),
        }
    }

    /// What both take before the fence: `limit` is a page's size, or one less; `error` is for orders alone.
    fn parameters(self, account: &AccountId, from: &Cursor, limit: i64) -> Vec<Parameter> {
        match self {
            Self::Authorizations => parameters![account, &from.key, from.at, limit],
            Self::Orders => parameters![account, &from.key, limit],
        }
    }
}

/// Records that nothing is left of an account.
fn tidied_statement() -> String {
    format!(
        "-- SWEEP_TIDIED_ACCOUNT\nUPDATE accounts SET untidied_since = NULL \
         WHERE id = $1 AND untidied_since = $2 AND {} RETURNING id",
        fence(3)
    )
}

/// The statements that are not fixed, with their events on Postgres.
pub(super) fn all_statements(dialect: Dialect) -> Vec<(&'static str, String)> {
    let mut all = vec![("SWEEP_TIDIED_ACCOUNT", tidied_statement())];
    for hanging in Hanging::ALL {
        let change = match dialect {
            Dialect::Postgres => audited_statement(&hanging.change(), Some(hanging.told().1)),
            Dialect::Sqlite => hanging.change(),
        };
        all.extend([("SWEEP_DEACTIVATED_END", hanging.end()), ("SWEEP_DEACTIVATED", change)]);
    }
    all
}

impl Store {
    /// At most `limit` accounts that were deactivated at or before `due`, and since when they are to be tidied up, those
    /// first that are so for longest.
    pub async fn untidied_accounts(
        &self,
        due: Timestamp,
        limit: i64,
    ) -> Result<Vec<(AccountId, Timestamp)>, StorageError> {
        let rows = self.read(SWEEP_UNTIDIED_ACCOUNTS, parameters![due, limit]).await?;
        let read = |row: &sqlx::any::AnyRow| {
            let id: String = row.try_get(0)?;
            let since = Timestamp::from_micros(row.try_get(1)?);
            let account = AccountId::parse(&id);
            let corrupt = StorageError::Corrupt { table: "accounts", column: "id", row: id };
            Ok((account.ok_or(corrupt)?, since))
        };
        rows.iter().map(read).collect()
    }

    /// Ends one page of what hangs on a deactivated account: at most `limit` rows (at least 1) from `from` on. `error` is
    /// what its orders then say, as a problem document. Changes nothing unless `term` is the leader's at `now`.
    #[expect(clippy::too_many_arguments, reason = "a page of a sweep, under the leader's term")]
    pub async fn end_hanging(
        &self,
        hanging: Hanging,
        term: &Term,
        now: Timestamp,
        account: &AccountId,
        from: &Cursor,
        limit: u32,
        error: &str,
    ) -> Result<Swept, StorageError> {
        let limit = i64::from(limit.max(1));
        let end = self.read(hanging.end(), hanging.parameters(account, from, limit - 1)).await?;
        let next = match end.first() {
            Some(row) => Some(Cursor { at: row.try_get(1)?, key: row.try_get(0)? }),
            None => None,
        };
        let mut values = hanging.parameters(account, from, limit);
        if hanging == Hanging::Orders {
            values.extend(parameters![error]);
        }
        values.extend(parameters![term.epoch, &term.holder, now]);
        let (action, per_row) = hanging.told();
        let event = self.event(action).account(account).detail(json!({"cause": "account deactivated"}));
        let dialect = self.dialect;
        let events = self.transaction(Box::new(move |connection| {
            Box::pin(async move {
                run_audited_each(connection, dialect, hanging.change(), values, &event, per_row).await
            })
        }));
        let events = events.await?;
        events.iter().for_each(audit::log);
        Ok(Swept { rows: events.len(), next })
    }

    /// Records that nothing hangs on an account any more that is to be tidied up since `since`; `false` if `term` is not
    /// the leader's at `now`.
    pub async fn account_is_tidy(
        &self,
        account: &AccountId,
        since: Timestamp,
        term: &Term,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let values = parameters![account, since, term.epoch, &term.holder, now];
        Ok(!self.write(tidied_statement(), values).await?.is_empty())
    }
}
