//! Tidying up after deactivated accounts (RFC 8555 §7.3.6): the leader ends on record what nobody can use any more.

use tokio::time::Instant;

use super::pace::{BUDGET, End, GRACE, PAGE, PATIENCE, REST, count_rows};
use crate::acme::id::AccountId;
use crate::acme::time::Timestamp;
use crate::service::{Services, accounts};
use crate::storage::{Cursor, Hanging, StorageError, Store, Swept, Term};

/// The word for it in logs and metrics.
pub(super) const NAME: &str = "deactivated_accounts";

/// Where tidying goes on that ran out of time.
pub(super) struct Place {
    account: AccountId,
    hanging: Hanging,
    from: Cursor,
}

impl Place {
    const fn start(account: AccountId) -> Self {
        Self { account, hanging: Hanging::Authorizations, from: Cursor::start() }
    }
}

/// Since when an account is to be tidied up that could be now; `None` if there is none.
pub(super) async fn oldest(store: &Store, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
    let found = store.untidied_accounts(now.minus(GRACE), 1).await?;
    Ok(found.first().map(|(_, since)| *since))
}

/// Tidies up account by account, a page at a time. Answers how many rows it ended, and how it ended itself; `place` is
/// where it began, and where the next run goes on.
pub(super) async fn tidy(
    services: &Services,
    term: &Term,
    leads: impl Fn() -> bool,
    place: &mut Option<Place>,
) -> Result<(usize, End), StorageError> {
    let started = Instant::now();
    let mut rows = 0;
    loop {
        let due = services.now().minus(GRACE);
        let Some((account, since)) = services.store.untidied_accounts(due, 1).await?.pop() else {
            return Ok((rows, End::Clean));
        };
        let begun = place.take().filter(|place| place.account == account);
        let mut at = begun.unwrap_or_else(|| Place::start(account.clone()));
        loop {
            if !leads() {
                return Ok((rows, End::NotLeading));
            }
            let began = Instant::now();
            let page = page(services, term, &at).await?;
            count_rows(NAME, page.rows);
            rows += page.rows;
            match (page.next, at.hanging.next()) {
                (Some(next), _) => at.from = next,
                (None, Some(hanging)) => at = Place { hanging, ..Place::start(account.clone()) },
                (None, None) => break,
            }
            if started.elapsed() >= BUDGET {
                *place = Some(at);
                return Ok((rows, End::Late));
            }
            tokio::time::sleep(began.elapsed() * REST).await;
        }
        if !services.store.account_is_tidy(&account, since, term, services.now()).await? {
            return Ok((rows, End::NotLeading));
        }
    }
}

async fn page(services: &Services, term: &Term, at: &Place) -> Result<Swept, StorageError> {
    let Place { account, hanging, from } = at;
    let error = accounts::deactivated().to_json().to_string();
    let page = services.store.end_hanging(*hanging, term, services.now(), account, from, PAGE, &error);
    match tokio::time::timeout(PATIENCE, page).await {
        Ok(swept) => swept,
        Err(_) => Err(StorageError::Unavailable("it did not answer in time".to_owned())),
    }
}
