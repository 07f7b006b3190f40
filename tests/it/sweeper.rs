//! I-12: one leader, who sweeps; and what clients see of it, which is nothing.

mod fleet;
mod hands;
mod million;
mod store;

use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;

use chancery::acme::time::Timestamp;
use chancery::storage::{Dialect, Store};

use crate::support::postgres::Postgres;
use crate::support::run::folder;

/// A migrated database, by the program's own way and by SQL.
pub struct Tables {
    pub store: Store,
    pool: AnyPool,
}

/// The instant that these tests take for the present.
pub const NOW: Timestamp = Timestamp::from_seconds(2_000_000_000);

impl Tables {
    pub async fn new(dialect: Dialect) -> Self {
        let (store, url) = match dialect {
            Dialect::Postgres => {
                let url = Postgres::shared().database();
                (Store::postgres(&url, 4).await.unwrap(), url)
            }
            Dialect::Sqlite => {
                let path = folder("sqlite").join("chancery.sqlite");
                (Store::sqlite(&path).await.unwrap(), format!("sqlite://{}", path.display()))
            }
        };
        store.migrate().await.unwrap();
        let options = AnyPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(20));
        Self { store, pool: options.connect(&url).await.unwrap() }
    }

    /// Runs SQL.
    pub async fn run(&self, sql: impl Into<String>) {
        let sql = sqlx::AssertSqlSafe(sql.into());
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    /// A column of texts.
    pub async fn column(&self, sql: impl Into<String>) -> Vec<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.into())).fetch_all(&self.pool).await.unwrap()
    }

    /// An order, with one authorization if one is named.
    pub async fn order(&self, id: &str, progress: &str, expires: Timestamp, authorization: Option<&str>) {
        let expires = expires.micros();
        self.run(format!(
            "INSERT INTO orders (id, account_id, profile, identifiers, created_at, expires_at, progress, lease_token, \
             lease_until) VALUES ('{id}', 'a', 'default', '[[\"dns\",\"a.test\"]]', 0, {expires}, '{progress}', 't', 1)"
        ))
        .await;
        if let Some(authorization) = authorization {
            self.run(format!("INSERT INTO order_authorizations VALUES ('{id}', 0, '{authorization}')")).await;
        }
    }

    /// An authorization; one that is being validated has a lease until then.
    pub async fn authorization(&self, id: &str, outcome: &str, expires: Timestamp, lease: Option<Timestamp>) {
        let (attempted, lease) = match lease {
            Some(until) => ("'http-01'", until.micros().to_string()),
            None => ("NULL", "NULL".to_owned()),
        };
        let expires = expires.micros();
        self.run(format!(
            "INSERT INTO authorizations (id, account_id, profile, identifier_type, identifier_value, wildcard, outcome, \
             created_at, expires_at, token, challenge_types, attempted, lease_until) VALUES ('{id}', 'a', 'default', \
             'dns', 'a.test', 0, '{outcome}', 0, {expires}, 't', 'http-01', {attempted}, {lease})"
        ))
        .await;
    }

    /// A certificate.
    pub async fn certificate(&self, serial: &str, order: &str, not_after: Timestamp) {
        let not_after = not_after.micros();
        self.run(format!(
            "INSERT INTO certificates (serial, order_id, account_id, profile, issuer_id, identifiers, key_sha256, \
             public_key, not_before, not_after, revoked_at, revocation_reason) VALUES ('{serial}', '{order}', 'a', \
             'default', 'i', '[]', 'k', '', 0, {not_after}, 1, 0)"
        ))
        .await;
    }

    /// A replica that was last seen then.
    pub async fn replica(&self, id: &str, seen: Timestamp) {
        let seen = seen.micros();
        self.run(format!("INSERT INTO replicas VALUES ('{id}', '1', 'l', 'o', 0, {seen})")).await;
    }

    /// Everything that a sweep might touch, as text.
    pub async fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        for sql in [
            "SELECT id || progress || coalesce(lease_token, '-') || coalesce(error, '-') FROM orders ORDER BY id",
            "SELECT order_id || authorization_id FROM order_authorizations ORDER BY order_id",
            "SELECT id || outcome || coalesce(CAST(lease_until AS TEXT), '-') FROM authorizations ORDER BY id",
            "SELECT serial FROM certificates ORDER BY serial",
            "SELECT id FROM replicas ORDER BY id",
            "SELECT action FROM audit_events ORDER BY id",
        ] {
            all.extend(self.column(sql).await);
        }
        all
    }
}
