//! An account that places orders as fast as it can, by several connections at once: it gets what its limit grants, no more,
//! whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::books::Books;
use super::walker::{Failure, Patience, Site, Walker};
use crate::support::run::unique_name;

/// The orders that an account may place in an hour; within one fault nothing flows back.
pub const MOST_ORDERS: usize = 20;

/// The account.
pub struct Greed(Arc<Walker>);

impl Greed {
    /// A new account, before the fault.
    pub async fn begin(site: &Arc<Site>, books: &Arc<Books>) -> Result<Self, Failure> {
        let walker = Arc::new(Walker::new(site, books, Patience::Client));
        walker.register().await?;
        books.account(&walker);
        Ok(Self(walker))
    }

    /// Takes what it gets until it is `over`.
    pub async fn grab(&self, over: &AtomicBool) {
        join_all((0..3).map(async |_| {
            while !over.load(Ordering::Relaxed) {
                let payload =
                    json!({"identifiers": [{"type": "dns", "value": unique_name()}], "profile": "trusted"});
                // Whatever comes of it: what counts is what is on record.
                let _ = self.0.once(&self.0.url("new-order"), &payload).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }))
        .await;
    }

    /// Holds that no more orders are on record than are `granted`; how many there are.
    pub fn check(&self, site: &Site, books: &Books, granted: usize) -> usize {
        let id = self.0.client.account().rsplit('/').next().unwrap_or_default().to_owned();
        let placed = site.server.sql(&format!("SELECT count(*) FROM orders WHERE account_id = '{id}'"));
        let placed = placed.parse().expect("a number");
        if placed > granted {
            books.wrong("limits", format!("{placed} orders where {granted} were granted"));
        }
        placed
    }
}
