//! What an operator can do about limits while the server runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{limited, place_ready, refused, use_up};
use crate::support::chancery::{Deployment, Kind};
use crate::support::client::Client;
use crate::support::run::{runtime, unique_name};
use crate::wire_tests;

wire_tests! {
    limited => lim_05_an_override_is_seen_by_every_replica_within_seconds;
}

/// Places one order through each replica until all of them answer with this status.
async fn until_everywhere(server: &Deployment, client: &Client, status: u16) {
    let start = Instant::now();
    loop {
        let mut answers = Vec::new();
        for _ in 0..server.size() {
            answers.push(place_ready(client, &[&unique_name()]).await.status);
        }
        if answers.iter().all(|answer| *answer == status) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{status} expected: {answers:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn lim_05_an_override_is_seen_by_every_replica_within_seconds(server: Arc<Deployment>) {
    let (client, other) = (server.account().await, server.account().await);
    use_up(&client, 6).await;
    refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
    let override_ = |arguments: &[&str]| {
        let mut all = vec!["limits", "override"];
        all.extend(arguments);
        server.command(&all)
    };
    // No limit for this account.
    override_(&["set", "new-orders", client.account(), "0"]);
    until_everywhere(&server, &client, 201).await;
    let id = client.account().rsplit('/').next().expect("an id");
    let list = override_(&["list"]);
    assert!(list.contains(&format!("new-orders {id} 0\n")), "{list}");
    // A smaller one for another, which has used as much already.
    use_up(&other, 3).await;
    override_(&["set", "new-orders", other.account(), "3"]);
    let start = Instant::now();
    while place_ready(&other, &[&unique_name()]).await.status == 201 {
        assert!(start.elapsed() < Duration::from_secs(15), "still served");
    }
    until_everywhere(&server, &other, 429).await;
    override_(&["remove", "new-orders", client.account()]);
    override_(&["remove", "new-orders", other.account()]);
    until_everywhere(&server, &client, 429).await;
    assert!(!override_(&["list"]).contains(id));
}

#[test]
fn an_operator_sees_and_resets_what_was_used() {
    let server = limited(Kind::Fleet);
    runtime().block_on(async {
        let client = server.account().await;
        use_up(&client, 6).await;
        refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
        let shown = server.command(&["limits", "show", client.account()]);
        let line = |limit: &str| shown.lines().find(|line| line.starts_with(limit)).unwrap_or_default();
        assert!(line("new-orders").contains(": 6 used, of 6, all free again in 3"), "{shown}");
        assert!(line("key-changes").ends_with(": 0 used, of 2"), "{shown}");
        assert!(line("active-orders").contains(": 6 used, no limit, the first ends in "), "{shown}");
        let log = server.log_of_command(&["limits", "reset", client.account()]);
        let line = log.lines().find(|line| line.contains("limit.reset")).expect("the event is logged, too");
        let line: Value = serde_json::from_str(line).expect("a JSON line");
        assert_eq!((&line["target"], &line["actor"]), (&json!("chancery::audit"), &json!("operator")));
        // There is nothing left that a second one could change.
        server.command(&["limits", "reset", client.account()]);
        let id = client.account().rsplit('/').next().expect("an id");
        let trail = server.command(&["audit", "--account", id, "--json"]);
        let events = trail.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
        let resets: Vec<_> = events.filter(|event| event["action"] == "limit.reset").collect();
        assert_eq!(resets.len(), 1, "{trail}");
        assert_eq!(resets[0]["actor"], "operator", "{trail}");
        assert_eq!(resets[0]["detail"], json!({"limit": "new-orders", "key": id, "used": 6}));
        use_up(&client, 6).await;
        refused(&place_ready(&client, &[&unique_name()]).await, "new-orders");
    });
}
