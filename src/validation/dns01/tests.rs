//! Against a name server.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use super::*;
use crate::acme::challenge::ChallengeType;
use crate::network::fakes::{FakeDns, Reply, cname, network, txt};
use crate::validation::{ValidationConfig, validate as validate_any};

// The digest of "tok.thumb", by openssl.
const DIGEST: &str = "sYAwVrqDtVOuJZvAHurSAYPoEt5fFV_C4bdSOOW-o5Y";

async fn verdict(dns: &FakeDns, identifier: Identifier) -> Verdict {
    let attempt = Attempt {
        kind: ChallengeType::Dns01,
        identifier: &identifier,
        token: "tok",
        key_thumbprint: "thumb",
    };
    validate_any(&attempt, &network(&[dns]), &ValidationConfig::default()).await
}

async fn of(dns: &FakeDns, name: &str) -> Verdict {
    verdict(dns, Identifier::Dns(name.into())).await
}

#[tokio::test]
async fn aut_11_any_one_of_many_values_matches_and_aliases_are_followed() {
    let dns = FakeDns::start().await;
    let mut many: Vec<_> = (0..200).map(|number| txt(&format!("wrong-{number}"))).collect();
    many.push(txt(DIGEST));
    dns.set("_acme-challenge.one.test", RecordType::TXT, Reply::Records(vec![txt(DIGEST)]))
        .set("_acme-challenge.many.test", RecordType::TXT, Reply::Truncated(many))
        .set("_acme-challenge.alias.test", RecordType::TXT, Reply::Records(vec![cname("x.dns.test")]))
        .set("x.dns.test", RecordType::TXT, Reply::Records(vec![txt("old"), txt(DIGEST)]));
    for name in ["one.test", "many.test", "alias.test"] {
        assert_eq!(of(&dns, name).await, Verdict::Valid, "{name}");
    }
}

#[tokio::test]
async fn aut_11_values_that_differ_at_all_are_final() {
    let dns = FakeDns::start().await;
    let cut = &DIGEST[..DIGEST.len() - 1];
    let longer = format!("{DIGEST}=");
    let cased = DIGEST.to_uppercase();
    for wrong in [cut, &longer, &cased, "", "tok.thumb", "\u{1}\"<b>"] {
        dns.set("_acme-challenge.a.test", RecordType::TXT, Reply::Records(vec![txt("x"), txt(wrong)]));
        let Verdict::Invalid(problem) = of(&dns, "a.test").await else { panic!("{wrong}") };
        assert_eq!(problem.kind, ProblemType::IncorrectResponse);
        assert!(
            problem.detail.contains("_acme-challenge.a.test") && problem.detail.contains(DIGEST),
            "{problem}"
        );
    }
    let many = (0..9).map(|number| txt(&format!("v{number}"))).collect();
    dns.set("_acme-challenge.a.test", RecordType::TXT, Reply::Records(many));
    let Verdict::Invalid(problem) = of(&dns, "a.test").await else { panic!() };
    assert!(problem.detail.contains("\"v2\" and 6 more"), "{problem}");
}

#[tokio::test]
async fn aut_11_what_may_yet_come_is_tried_again() {
    let dns = FakeDns::start().await;
    dns.set("_acme-challenge.empty.test", RecordType::TXT, Reply::NoData)
        .set("_acme-challenge.broken.test", RecordType::TXT, Reply::Code(ResponseCode::ServFail))
        .set("_acme-challenge.silent.test", RecordType::TXT, Reply::Silence);
    for name in ["empty.test", "missing.test", "broken.test", "silent.test"] {
        let Verdict::Retry(problem) = of(&dns, name).await else { panic!("{name}") };
        assert_eq!(problem.kind, ProblemType::Dns);
        assert!(problem.detail.contains(&format!("_acme-challenge.{name}")), "{problem}");
    }
    let address = verdict(&dns, Identifier::Ip("192.0.2.1".parse().unwrap())).await;
    assert!(matches!(address, Verdict::Invalid(_)));
}
