//! Whoever takes an issuance over signs what was decided when it began, however it is configured itself (I-4).

use serde_json::json;
use x509_parser::extensions::ParsedExtension;

use super::points::{assert_one_certificate, on_record};
use crate::certificates::crl_url;
use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::Order;
use crate::support::keys::{Key, base64url};
use crate::support::run::{runtime, unique_name};

/// What the replicas that did not begin the issuance say in theirs.
const OTHERWISE: [(&str, &str); 4] = [
    ("CHANCERY_PROFILES_TRUSTED_CLIENT_AUTH", "false"),
    ("CHANCERY_PROFILES_TRUSTED_COMMON_NAME", "false"),
    ("CHANCERY_PROFILES_TRUSTED_POLICY_OID", "1.3.6.1.4.1.32473.2"),
    ("CHANCERY_CA_PUBLIC_URL", "http://moved.chancery.test"),
];

/// What a leaf says beside its names, key and times.
#[derive(Debug, PartialEq)]
struct Said {
    common_name: Option<String>,
    client_auth: bool,
    policies: Vec<String>,
    moved: bool,
}

impl Said {
    fn of(chain: &Chain) -> Self {
        let leaf = chain.leaf();
        let named = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CertificatePolicies(named) => Some(named),
            _ => None,
        });
        let policies = named.into_iter().flatten().map(|policy| policy.policy_id.to_id_string()).collect();
        let extended = leaf.extended_key_usage().expect("one").expect("an extended key usage");
        let mut names = leaf.subject().iter_common_name();
        Self {
            common_name: names.next().and_then(|name| name.as_str().ok()).map(str::to_owned),
            client_auth: extended.value.client_auth,
            policies,
            moved: crl_url(chain).starts_with("http://moved.chancery.test/"),
        }
    }

    /// As replica 0 is configured.
    fn as_begun(name: &str) -> Self {
        Self { common_name: Some(name.to_owned()), client_auth: true, policies: Vec::new(), moved: false }
    }
}

/// Has replica 0 begin an issuance, which it does not survive.
async fn begin(client: &Client, name: &str) -> Order {
    let order = client.ready_order(&[name]).await;
    let payload = json!({"csr": base64url(&csr(&Key::new().to_rcgen(), &[name]))});
    let ask = client.post(&order.finalize()).json(payload).through(0).ready().await;
    ask.try_send().await.expect_err("the answer is lost");
    client.server.replica(0).wait_for_fault().await;
    order
}

async fn issued(client: &Client, order: &Order) -> Chain {
    let url = client.wait_for(&order.url, "valid").await.string("certificate");
    Chain::parse(&client.read(&url).await.expect(200).text())
}

fn taken_over_by_another_configuration(point: &str) {
    let mut settings = Settings::new().killed_at(point);
    for replica in [1, 2] {
        for (name, value) in OTHERWISE {
            settings = settings.set_for(replica, name, value);
        }
    }
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = begin(&client, &name).await;
        let serial = on_record(&server, &order, "serial");
        assert_eq!(Said::of(&issued(&client, &order).await), Said::as_begun(&name));
        assert_one_certificate(&client, &order, &serial).await;
        // Those who took it over say otherwise in what they begin themselves.
        let own = client.issue_any().await;
        let policies = vec!["1.3.6.1.4.1.32473.2".to_owned()];
        let otherwise = Said { common_name: None, client_auth: false, policies, moved: true };
        assert_eq!(Said::of(&own.chain), otherwise);
    });
}

#[test]
fn i_04_an_issuance_that_had_begun_says_the_same_under_another_configuration() {
    taken_over_by_another_configuration("issuance-begun");
}

#[test]
fn i_04_an_issuance_that_was_signed_says_the_same_under_another_configuration() {
    taken_over_by_another_configuration("issuance-signed");
}

/// A replica of an older version puts no content on record.
#[test]
fn i_04_an_issuance_without_its_content_says_what_its_profile_says() {
    let settings = Settings::new().killed_at("issuance-begun").replicas(1);
    let server = Deployment::with(Kind::Fleet, &settings);
    runtime().block_on(async {
        let client = server.account().await;
        let name = unique_name();
        let order = begin(&client, &name).await;
        assert!(on_record(&server, &order, "content").contains("client_auth"));
        server.sql("UPDATE certificates SET content = NULL");
        let serial = on_record(&server, &order, "serial");
        server.restart(0);
        client.forget_nonces();
        assert_eq!(Said::of(&issued(&client, &order).await), Said::as_begun(&name));
        assert_one_certificate(&client, &order, &serial).await;
    });
}
