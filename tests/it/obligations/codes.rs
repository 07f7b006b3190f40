//! Status codes and media types, exactly.

use super::on_the_fleet;
use super::walk::{errors, walk};

/// uacme compares each; acme4j knows 200 and 201 only, acme.sh wants 200 of finalize.
#[test]
fn o09_every_success_has_the_status_that_clients_compare_with() {
    on_the_fleet(async |server| {
        let mut seen = Vec::new();
        for step in walk(&server).await {
            assert_eq!(step.answer.status, step.wanted, "{}: {}", step.what, step.answer);
            seen.push(step.what);
        }
        for what in [
            "newAccount",
            "newOrder",
            "challenge answered",
            "finalize",
            "certificate",
            "revokeCert",
            "keyChange",
        ] {
            assert!(seen.contains(&what), "{seen:?}");
        }
        for step in errors(&server).await {
            assert_eq!(step.answer.status, step.wanted, "{}: {}", step.what, step.answer);
        }
    });
}

/// acmez compares the media type in full, and does not repeat a `badNonce` that has another; acme4j and mod_md refuse
/// what is not as announced.
#[test]
fn o11_every_body_is_of_the_media_type_that_clients_compare_with() {
    on_the_fleet(async |server| {
        let mut kinds = Vec::new();
        let mut steps = walk(&server).await;
        steps.extend(errors(&server).await);
        for step in steps {
            let answer = &step.answer;
            let wanted = match (answer.status, answer.body.is_empty()) {
                (400.., _) => "application/problem+json",
                (_, true) => continue,
                _ if step.what == "certificate" => "application/pem-certificate-chain",
                _ => "application/json",
            };
            assert_eq!(answer.content_type(), wanted, "{}: {answer}", step.what);
            assert_eq!(answer.headers.get_all("content-type").iter().count(), 1, "{answer}");
            kinds.push(wanted);
        }
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 3, "{kinds:?}");
    });
}
