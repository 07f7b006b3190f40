//! What the sweeper adds to the audit trail, and what it takes from it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{actions, id, of_account, of_order, trail};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::text;
use crate::support::run::{unique_name, wait_until};
use crate::wire_tests;

wire_tests! {
    forgetful => sweeps_are_told_and_the_trail_ends_with_its_retention;
}

fn forgetful(kind: Kind) -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_SWEEP_INTERVAL", "200ms")
        .set("CHANCERY_ORDER_LIFETIME", "1s")
        .set("CHANCERY_AUTHORIZATION_LIFETIME", "1s")
        .set("CHANCERY_RETENTION_ORDERS", "1s")
        .set("CHANCERY_RETENTION_AUTHORIZATIONS", "1s")
        .set("CHANCERY_RETENTION_AUDIT", "15s");
    Deployment::with(kind, &settings)
}

/// What ends is told one by one, what is deleted is counted.
async fn sweeps_are_told_and_the_trail_ends_with_its_retention(server: Arc<Deployment>) {
    let client = server.account().await;
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(client.order(&[&unique_name()]).await.url);
    }
    for url in &orders {
        wait_until("it has expired", || actions(&of_order(&client, url)).len() > 1);
        let events = of_order(&client, url);
        assert_eq!(actions(&events), ["order.placed", "order.expired"]);
        let expired = &events[1];
        assert_eq!((text(expired, "actor"), text(expired, "order")), ("replica".into(), id(url).into()));
        assert_eq!(text(expired, "account"), id(client.account()));
        assert_eq!((&expired["request_id"], &expired["detail"]), (&Value::Null, &json!({})), "{expired}");
        let parts = ["chancery::audit", "order.expired", id(url), &text(expired, "id")];
        let logged = |line: &str| parts.iter().all(|part| line.contains(part));
        wait_until("it is logged, too", || server.log().lines().any(logged));
    }
    let rows = |action: &str| -> i64 {
        let events = trail(&server, "--all", "").into_iter().filter(|event| event["action"] == action);
        let count = |event: Value| {
            assert_eq!((text(&event, "actor"), &event["account"]), ("replica".to_owned(), &Value::Null));
            event["detail"]["rows"].as_i64().expect("a count")
        };
        events.map(count).sum()
    };
    for action in ["order.swept", "authorization.swept"] {
        wait_until(action, || rows(action) == 3);
    }
    assert_eq!(of_account(&client).len(), 7, "what is younger stays, though its orders are gone");
    wait_until("the events are gone", || of_account(&client).is_empty());
    wait_until("those of the sweeps too, and their end leaves none", || {
        trail(&server, "--all", "").is_empty()
    });
}
