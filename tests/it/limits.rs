//! LIM, and I-9 to I-11: limits, from the buckets themselves to what a client sees.

mod active;
mod addresses;
mod buckets;
mod clocks;
mod defaults;
mod differential;
mod failures;
mod operator;
mod renewals;
mod stores;
mod wire;
mod writes;

use std::sync::{Arc, OnceLock};

use serde_json::json;

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::identifiers;
use crate::support::response::Response;
use crate::support::run::unique_name;

/// Where refused clients are sent.
const HELP: &str = "https://www.chancery.test/limits";

/// A profile whose certificates are due for renewal as soon as they are issued, and exempt then.
const TOML: &str = r#"
[profiles.due]
authorization = "trusted"
accept_anyone = true
validity = "7d"
backdate = "6d"
"#;

fn settings() -> Settings {
    let settings = Settings::new().set("CHANCERY_LIMITS_EXEMPT_AFTER", "0s");
    settings.set("CHANCERY_LIMITS_HELP_URL", HELP).toml(TOML)
}

/// A deployment with low limits on everything but active orders and new accounts.
fn limited(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    let settings = settings()
        .set("CHANCERY_PRE_AUTHORIZATION", "true")
        .set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "6")
        .set("CHANCERY_LIMITS_KEY_CHANGES_PER_HOUR", "2")
        .set("CHANCERY_LIMITS_CHALLENGE_RESPONSES_PER_HOUR", "3")
        .set("CHANCERY_LIMITS_FAILED_VALIDATIONS_PER_HOUR", "2")
        .set("CHANCERY_LIMITS_DUPLICATE_CERTIFICATES_PER_DAY", "2");
    cell.get_or_init(|| Deployment::with(kind, &settings)).clone()
}

async fn place(client: &Client, names: &[&str]) -> Response {
    client.new_order(json!({"identifiers": identifiers(names)})).await
}

async fn place_ready(client: &Client, names: &[&str]) -> Response {
    client.new_order(json!({"identifiers": identifiers(names), "profile": "trusted"})).await
}

/// Places orders until `count` are placed.
async fn use_up(client: &Client, count: usize) {
    for _ in 0..count {
        place_ready(client, &[&unique_name()]).await.expect(201);
    }
}

/// A refusal, with all that must be in it (LIM-01): the seconds it tells to wait.
fn refused(response: &Response, limit: &str) -> u64 {
    let problem = response.problem(429, "rateLimited");
    let seconds = response.retry_after().expect("Retry-After");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains(limit) && detail.contains(&format!(" {seconds} second")), "{response}");
    assert_eq!(response.links("help"), [format!("{HELP}#{limit}")], "{response}");
    assert!(response.nonce().is_some(), "{response}");
    seconds
}
