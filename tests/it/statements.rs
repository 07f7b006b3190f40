//! The SQL itself: every statement prepares on both databases, and on Postgres finds its rows by an index; both schemas
//! are the same; and what a replica refuses to start with.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use chancery::storage::{Dialect, Store, all_statements};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection, Either, Executor, PgConnection, Row, SqlSafeStr, SqliteConnection, Statement,
};

use crate::support::chancery::{Deployment, Kind, Settings, refusal};
use crate::support::postgres::Postgres;
use crate::support::run::{folder, runtime};

async fn migrated_sqlite() -> (PathBuf, SqliteConnection) {
    let file = folder("statements").join("chancery.sqlite");
    Store::sqlite(&file).await.expect("a store").migrate().await.expect("migrated");
    let connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await;
    (file, connection.expect("a connection"))
}

async fn migrated_postgres() -> (String, PgConnection) {
    let url = Postgres::shared().database();
    Store::postgres(&url, 2).await.expect("a store").migrate().await.expect("migrated");
    let connection = PgConnection::connect(&url).await.expect("a connection");
    (url, connection)
}

#[test]
fn every_statement_prepares_on_sqlite() {
    runtime().block_on(async {
        let (_, mut connection) = migrated_sqlite().await;
        let all = all_statements(Dialect::Sqlite);
        assert!(all.len() > 30, "{}", all.len());
        for (name, text) in all {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
            let plan =
                plan.fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            for step in plan {
                let detail: String = step.get("detail");
                let by_index = detail.contains("USING INDEX") || detail.contains("USING COVERING INDEX");
                let scans = detail.starts_with("SCAN ") && !by_index;
                // `x` is what a sweep has found by an index already, bounded.
                let of_a_table =
                    !detail.contains("CONSTANT") && !detail.contains("VALUES CLAUSE") && detail != "SCAN x";
                assert!(!scans || !of_a_table, "{name}: {detail}");
            }
        }
    });
}

/// The nodes of a plan that read a whole table or a whole index.
fn whole_reads(node: &Value, found: &mut Vec<String>) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let by_index = matches!(kind, "Index Scan" | "Index Only Scan" | "Bitmap Index Scan");
    if kind == "Seq Scan" || by_index && node["Index Cond"].is_null() {
        found.push(format!("{kind} of {} {}", node["Relation Name"], node["Index Name"]));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        // In the order of an index up to a limit: no more is read than is answered.
        if kind == "Limit"
            && child["Plans"].is_null()
            && child["Filter"].is_null()
            && child["Node Type"] != "Seq Scan"
        {
            continue;
        }
        whole_reads(child, found);
    }
}

/// The nodes of a plan that look for orders or authorizations by anything but their key: a plan that is made while a table
/// is small is kept when it is large.
fn by_another_way_than_the_key(node: &Value, found: &mut Vec<String>) {
    let (table, index) = (&node["Relation Name"], &node["Index Name"]);
    if let (Some(table @ ("orders" | "authorizations")), Some(index)) = (table.as_str(), index.as_str())
        && index != format!("{table}_pkey")
    {
        found.push(format!("{table} by {index}"));
    }
    node["Plans"]
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|child| by_another_way_than_the_key(child, found));
}

#[test]
fn every_statement_prepares_on_postgres_and_finds_its_rows_by_an_index() {
    runtime().block_on(async {
        let (_, mut connection) = migrated_postgres().await;
        connection
            .execute(
                // As the program's own sessions, which never hash or merge.
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET plan_cache_mode = force_generic_plan",
            )
            .await
            .expect("settings");
        let all = all_statements(Dialect::Postgres);
        assert!(all.len() > 30, "{}", all.len());
        let mut bad = Vec::new();
        for (name, text) in all {
            // As the program does: the types follow from the text.
            let prepared = (&mut connection).prepare(AssertSqlSafe(text.clone()).into_sql_str()).await;
            let prepared = prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
            let count = match prepared.parameters() {
                Some(Either::Left(types)) => types.len(),
                Some(Either::Right(count)) => count,
                None => 0,
            };
            let nulls = vec!["NULL"; count].join(", ");
            let call = if count == 0 { "each".to_owned() } else { format!("each({nulls})") };
            for step in ["DEALLOCATE ALL".to_owned(), format!("PREPARE each AS {text}")] {
                connection
                    .execute(AssertSqlSafe(step))
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE {call}");
            let plan: Value = connection
                .fetch_one(AssertSqlSafe(explain))
                .await
                .map(|row| serde_json::from_str(row.get_unchecked::<&str, _>(0)).expect("JSON"))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut found = Vec::new();
            whole_reads(&plan[0]["Plan"], &mut found);
            if text.contains("WHERE id = $") {
                by_another_way_than_the_key(&plan[0]["Plan"], &mut found);
            }
            bad.extend(found.into_iter().map(|node| format!("{name}: {node}")));
        }
        assert!(bad.is_empty(), "{bad:#?}");
    });
}

#[test]
fn both_databases_have_the_same_schema() {
    runtime().block_on(async {
        let (_, mut sqlite) = migrated_sqlite().await;
        let (_, mut postgres) = migrated_postgres().await;
        // Primary keys are NOT NULL in Postgres by themselves.
        let columns = "SELECT m.name || '.' || p.name || ' ' || lower(p.type) || \
             CASE WHEN p.pk > 0 THEN ' key' WHEN p.\"notnull\" THEN ' required' ELSE '' END \
             FROM sqlite_master m JOIN pragma_table_info(m.name) p \
             WHERE m.type = 'table' AND m.name NOT LIKE '\\_%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'";
        let indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
        let mut here = BTreeSet::new();
        for query in [columns, indexes] {
            let rows = sqlx::query(query).fetch_all(&mut sqlite).await.expect("rows");
            here.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        let columns = "SELECT c.table_name || '.' || c.column_name || ' ' || c.data_type || \
             CASE WHEN k.column_name IS NOT NULL THEN ' key' WHEN c.is_nullable = 'NO' THEN ' required' ELSE '' END \
             FROM information_schema.columns c \
             LEFT JOIN information_schema.table_constraints t ON t.table_name = c.table_name \
               AND t.constraint_type = 'PRIMARY KEY' AND t.table_schema = 'public' \
             LEFT JOIN information_schema.key_column_usage k ON k.constraint_name = t.constraint_name \
               AND k.table_name = c.table_name AND k.column_name = c.column_name \
             WHERE c.table_schema = 'public' AND c.table_name NOT LIKE '\\_%'";
        let indexes = "SELECT i.indexname::text FROM pg_indexes i WHERE i.schemaname = 'public' \
             AND i.tablename NOT LIKE '\\_%' \
             AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)";
        let mut there = BTreeSet::new();
        for query in [columns, indexes] {
            let rows = sqlx::query(query).fetch_all(&mut postgres).await.expect("rows");
            there.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        assert!(here.len() > 60, "{here:#?}");
        assert_eq!(here, there);
    });
}

/// Statements of requests are bounded in time (5 s), the building of an index over a table that has grown is not.
#[test]
fn a_migration_may_take_longer_than_a_request() {
    const SLOW: &str = "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(5.5); END $$; \
         CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE FUNCTION') EXECUTE FUNCTION slow()";
    let url = Postgres::shared().database();
    Postgres::shared().psql(&url, SLOW);
    runtime().block_on(async {
        let store = Store::postgres(&url, 1).await.expect("a store");
        let start = std::time::Instant::now();
        store.migrate().await.expect("migrated");
        assert!(start.elapsed() > std::time::Duration::from_secs(5), "it was slow");
        let mut connection = PgConnection::connect(&url).await.expect("a connection");
        let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success")
            .fetch_one(&mut connection)
            .await
            .expect("the migrations");
        assert!(applied >= 6, "{applied}");
        assert!(store.ping().await.is_ok());
    });
}

/// A migration that this program does not know.
const FROM_THE_FUTURE: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";

fn assert_newer_schema_is_refused(environment: &[(String, String)]) {
    for command in ["serve", "migrate"] {
        let said = refusal(&[command], environment);
        assert!(said.contains("schema is newer") && said.contains("9999"), "{said}");
        assert!(said.contains("run the newer chancery"), "what to do: {said}");
    }
}

#[test]
fn a_schema_from_the_future_is_refused_on_postgres() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().replicas(1));
    server.sql(FROM_THE_FUTURE);
    server.kill(0);
    assert_newer_schema_is_refused(server.replica(0).environment());
}

#[test]
fn a_schema_from_the_future_is_refused_on_sqlite() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    server.kill(0);
    runtime().block_on(async {
        let file = server.replica(0).data_dir.join("chancery.sqlite");
        let url = format!("sqlite://{}", file.display());
        let mut connection = SqliteConnection::connect(&url).await.expect("a connection");
        connection.execute(FROM_THE_FUTURE).await.expect("a row");
        connection.close().await.expect("closed");
    });
    assert_newer_schema_is_refused(server.replica(0).environment());
}

#[test]
fn the_sqlite_files_are_for_their_owner_alone() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    runtime().block_on(async { server.account().await.issue_any().await });
    for ending in ["", "-wal", "-shm"] {
        let file = server.replica(0).data_dir.join(format!("chancery.sqlite{ending}"));
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_process_on_one_sqlite_file_is_refused_and_the_first_goes_on() {
    let server = Deployment::with(Kind::Embedded, &Settings::new());
    let elsewhere = [("CHANCERY_LISTEN", "127.0.0.1:0"), ("CHANCERY_OPS_LISTEN", "127.0.0.1:0")];
    let mut environment = server.replica(0).environment().to_vec();
    environment.extend(elsewhere.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for command in ["serve", "migrate"] {
        let said = refusal(&[command], &environment);
        assert!(said.contains("another chancery process uses"), "{said}");
        assert!(
            said.contains("CHANCERY_DATA_DIR") && said.contains("CHANCERY_DATABASE_URL"),
            "what to do: {said}"
        );
    }
    runtime().block_on(async { server.account().await.issue_any().await });
    // A killed process leaves no lock behind.
    server.restart(0);
}

#[test]
fn postgres_without_redis_is_refused() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().replicas(1));
    let mut environment = server.replica(0).environment().to_vec();
    environment.retain(|(name, _)| name != "CHANCERY_REDIS_URL");
    let said = refusal(&["serve"], &environment);
    assert!(said.contains("redis.url") && said.contains("replicas = 1"), "{said}");
}
