//! Single messages to a store are lost, or their answers: what the fault suite found, each by itself.

use serde_json::json;

use super::{assert_unavailable, ready_again, until};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::flows::identifiers;
use crate::support::proxy::Part;
use crate::support::run::{runtime, unique_name};

/// A connection that breaks while it is new is no reason to wait for the next: found by the fault suite.
#[test]
fn i_11_a_connection_to_redis_that_breaks_while_it_is_new_is_replaced() {
    let server = Deployment::with(Kind::Fleet, &Settings::new().redis_through_proxy().replicas(1));
    runtime().block_on(async {
        let client = server.account().await;
        for what in ["EVALSHA", "memory"] {
            let before = server.redis_proxy().lost();
            server.redis_proxy().lose_next(what, Part::Message);
            server.redis_proxy().cut();
            until("the new connection breaks", || server.redis_proxy().lost() > before).await;
            ready_again(&server).await;
            client.issue_any().await;
        }
    });
}

/// The order was placed and its answer was lost: the client cannot know, and may try again; but it has had its order.
#[test]
fn i_09_an_order_whose_answer_was_lost_stays_charged() {
    let settings = Settings::new().own_postgres().through_proxy().replicas(1);
    let server = Deployment::with(Kind::Fleet, &settings.set("CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR", "1"));
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let payload = json!({"identifiers": identifiers(&[&name]), "profile": "trusted"});
        server.proxy().lose_next(&name, Part::Answer);
        assert_unavailable(&client.new_order(payload.clone()).await);
        assert_eq!(server.sql("SELECT count(*) FROM orders"), "1", "it was placed");
        client.new_order(payload).await.problem(429, "rateLimited");
        assert_eq!(server.sql("SELECT count(*) FROM orders"), "1");
    });
}
