//! The grammar and the rules by table, the climbing against a name server.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::*;
use crate::network::answer;
use crate::network::fakes::{FakeDns, Reply, caa, cname, corpus_and_mutations, network};

/// As by default.
const CLIMB: Climb = Climb { stop_at: Vec::new(), most_levels: 16 };

const ACCOUNT: &str = "https://acme.test/account/1";

fn record(tag: &str, value: &str) -> CaaRecord {
    CaaRecord { critical: false, tag: tag.into(), value: value.into() }
}

fn critical(tag: &str, value: &str) -> CaaRecord {
    CaaRecord { critical: true, ..record(tag, value) }
}

fn outcome(records: &[CaaRecord], wildcard: bool, method: Option<ChallengeType>) -> Result<(), CaaRefusal> {
    let identifier = Identifier::Dns("a.test".into());
    let issuer_domains = ["ca.test".to_owned(), "ca.example".to_owned()];
    let request = CaaRequest {
        identifier: &identifier,
        wildcard,
        method,
        account_url: ACCOUNT,
        issuer_domains: &issuer_domains,
        climb: &CLIMB,
    };
    evaluate(records, &request)
}

fn plain(records: &[CaaRecord]) -> bool {
    outcome(records, false, Some(ChallengeType::Http01)).is_ok()
}

fn wild(records: &[CaaRecord]) -> bool {
    outcome(records, true, Some(ChallengeType::Dns01)).is_ok()
}

#[test]
fn aut_14_issue_names_who_may_and_additional_names_add() {
    for (value, may) in [
        ("ca.test", true),
        ("CA.Test", true),
        ("ca.example", true),
        (" \t ca.test \t ", true),
        ("ca.test;", true),
        ("ca.test ; ", true),
        ("ca.test; account=230123", true),
        ("ca.test; a=b; c=d", true),
        ("ca.test; a =\tb ;c=", true),
        ("other.test", false),
        ("sub.ca.test", false),
        ("ca.test.evil", false),
        ("", false),
        (";", false),
        (" ; ", false),
        ("; a=b", false),
        ("%%%%%", false),
        ("ca.test.", false),
        (".ca.test", false),
        ("ca..test", false),
        ("-ca.test", false),
        ("ca.test other.test", false),
        ("ca.test a=b", false),
        ("ca.test; a", false),
        ("ca.test; =b", false),
        ("ca.test; a=b c", false),
        ("ca.test; a=b;", false),
        ("ca.test;; a=b", false),
        ("ca.test; -a=b", false),
        ("ca.test; a_b=c", false),
        ("ca.test; a=\u{e4}", false),
        ("ca.test\n", false),
    ] {
        assert_eq!(plain(&[record("issue", value)]), may, "{value:?}");
        assert_eq!(wild(&[record("ISSUE", value)]), may, "{value:?}");
        assert_eq!(wild(&[record("IssueWild", value)]), may, "{value:?}");
    }
    assert!(plain(&[record("issue", "other.test"), record("issue", ";"), record("issue", "ca.test")]));
    assert!(plain(&[record("issue", "%%%"), record("issue", "ca.test")]));
    assert!(!plain(&[CaaRecord { critical: false, tag: "issue".into(), value: vec![0xff; 3] }]));
}

#[test]
fn aut_14_issuewild_rules_wildcards_and_nothing_else() {
    let (ours, theirs) = (|tag| record(tag, "ca.test"), |tag| record(tag, "other.test"));
    for (records, plainly, wildly) in [
        (vec![theirs("issue"), ours("issuewild")], false, true),
        (vec![ours("issue"), theirs("issuewild")], true, false),
        (vec![ours("issue"), record("issuewild", ";")], true, false),
        (vec![theirs("issuewild")], true, false),
        (vec![ours("issuewild")], true, true),
        (vec![ours("issue")], true, true),
        (vec![theirs("issue")], false, false),
        (vec![record("iodef", "mailto:a@a.test")], true, true),
        (vec![record("issuemail", ";")], true, true),
        (vec![record("tbs", "whatever")], true, true),
    ] {
        assert_eq!((plain(&records), wild(&records)), (plainly, wildly), "{records:?}");
    }
}

#[test]
fn aut_14_an_unknown_critical_tag_forbids_whatever_else_is_there() {
    let refusal = outcome(&[record("issue", "ca.test"), critical("tbs", "x")], false, None);
    assert_eq!(refusal, Err(CaaRefusal::CriticalTag("tbs".into())));
    for tag in ["issue", "Issue"] {
        assert!(plain(&[critical(tag, "ca.test")]));
    }
    let known = ["iodef", "issuewild", "contactemail", "contactphone", "issuemail", "IODEF"];
    let mut records = vec![record("issue", "ca.test")];
    records.extend(known.map(|tag| critical(tag, "ca.test")));
    assert!(plain(&records));
}

#[test]
fn aut_14_accounturi_binds_to_the_account() {
    let with = |parameters: &str| {
        outcome(&[record("issue", &format!("ca.test; {parameters}"))], false, Some(ChallengeType::Http01))
    };
    assert_eq!(with(&format!("accounturi={ACCOUNT}")), Ok(()));
    assert_eq!(with(&format!("AccountURI={ACCOUNT}")), Ok(()));
    for wrong in [
        format!("accounturi={ACCOUNT}0"),
        "accounturi=".to_owned(),
        format!("accounturi={}", ACCOUNT.to_uppercase()),
        format!("accounturi={ACCOUNT}; accounturi={ACCOUNT}"),
        format!("accounturi={ACCOUNT}; ACCOUNTURI=https://other.test/1"),
    ] {
        assert_eq!(with(&wrong), Err(CaaRefusal::Account), "{wrong}");
    }
    // One record for each of two accounts.
    let two = [
        record("issue", "ca.test; accounturi=x"),
        record("issue", &format!("ca.test; accounturi={ACCOUNT}")),
    ];
    assert!(plain(&two));
    // What is told is what concerns us, in whatever order it comes.
    let mut mixed = [record("issue", "ca.test; accounturi=x"), record("issue", "other.test")];
    assert_eq!(outcome(&mixed, false, None), Err(CaaRefusal::Account));
    mixed.reverse();
    assert_eq!(outcome(&mixed, false, None), Err(CaaRefusal::Account));
}

#[test]
fn aut_14_validationmethods_binds_to_the_method() {
    use ChallengeType::{Dns01, Http01, TlsAlpn01};
    for (parameters, method, may) in [
        ("validationmethods=http-01", Some(Http01), true),
        ("validationmethods=dns-01,http-01", Some(Http01), true),
        ("ValidationMethods=dns-01", Some(Dns01), true),
        ("validationmethods=dns-01", Some(Http01), false),
        ("validationmethods=http-01,tls-alpn-01", Some(Dns01), false),
        ("validationmethods=tls-alpn-01", Some(TlsAlpn01), true),
        ("validationmethods=", Some(Http01), false),
        ("validationmethods=http-010", Some(Http01), false),
        ("validationmethods=http-01; validationmethods=http-01", Some(Http01), false),
        ("validationmethods=http-01", None, false),
        ("other=x", None, true),
    ] {
        let records = [record("issue", &format!("ca.test; {parameters}"))];
        let expected = if may { Ok(()) } else { Err(CaaRefusal::Method) };
        assert_eq!(outcome(&records, false, method), expected, "{parameters}");
    }
}

#[test]
fn aut_14_nobody_is_named_as_us_by_a_server_without_a_name() {
    let identifier = Identifier::Dns("a.test".into());
    let request = CaaRequest {
        identifier: &identifier,
        wildcard: false,
        method: None,
        account_url: ACCOUNT,
        issuer_domains: &[],
        climb: &CLIMB,
    };
    assert!(evaluate(&[record("issue", ";")], &request).is_err());
    assert!(evaluate(&[record("issue", "ca.test")], &request).is_err());
    assert!(evaluate(&[record("iodef", "x")], &request).is_ok());
}

async fn checked(dns: &FakeDns, name: &str) -> CaaVerdict {
    let identifier = Identifier::Dns(name.into());
    let issuer_domains = ["ca.test".to_owned()];
    let request = CaaRequest {
        identifier: &identifier,
        wildcard: false,
        method: Some(ChallengeType::Http01),
        account_url: ACCOUNT,
        issuer_domains: &issuer_domains,
        climb: &CLIMB,
    };
    check(&request, &network(&[dns])).await
}

#[tokio::test]
async fn aut_14_the_tree_is_climbed_to_the_first_records_and_no_further() {
    let dns = FakeDns::start().await;
    let issue = |value: &str| Reply::Records(vec![caa(false, "issue", value)]);
    dns.set("ours.test", RecordType::CAA, issue("ca.test"))
        .set("theirs.test", RecordType::CAA, issue("other.test"))
        .set("back.theirs.test", RecordType::CAA, issue("ca.test"))
        .set("empty.ours.test", RecordType::CAA, Reply::NoData)
        .set("alias.theirs.test", RecordType::CAA, Reply::Records(vec![cname("ours.test")]))
        .set("tld", RecordType::CAA, issue(";"))
        // A parent whose name server is broken is of no matter once the child has records.
        .set("broken", RecordType::CAA, Reply::Code(ResponseCode::ServFail))
        .set("good.broken", RecordType::CAA, issue("ca.test"));
    for permitted in [
        "ours.test",
        "a.b.c.ours.test",
        "x.empty.ours.test",
        "back.theirs.test",
        "x.alias.theirs.test",
        "none.test",
        "x.good.broken",
    ] {
        assert_eq!(checked(&dns, permitted).await, CaaVerdict::Permitted, "{permitted}");
    }
    for (forbidden, level) in
        [("theirs.test", "theirs.test"), ("a.b.theirs.test", "theirs.test"), ("a.tld", "tld")]
    {
        let CaaVerdict::Forbidden(problem) = checked(&dns, forbidden).await else { panic!("{forbidden}") };
        assert_eq!(problem.kind, ProblemType::Caa);
        assert!(problem.detail.contains(&format!("at {level} forbid {forbidden}")), "{problem}");
    }
    let CaaVerdict::Forbidden(problem) = checked(&dns, "theirs.test").await else { panic!() };
    assert!(problem.detail.ends_with("issue \"other.test\""), "{problem}");
}

#[tokio::test]
async fn aut_14_a_failed_lookup_on_the_way_up_fails_closed() {
    let dns = FakeDns::start().await;
    let ours: Vec<RData> = vec![caa(false, "issue", "ca.test")];
    dns.set("ours.test", RecordType::CAA, Reply::Records(ours.clone()))
        .set("servfail.ours.test", RecordType::CAA, Reply::Code(ResponseCode::ServFail))
        .set("mangled.ours.test", RecordType::CAA, Reply::Mangled(ours))
        .set("silent.ours.test", RecordType::CAA, Reply::Silence)
        .set("loop.ours.test", RecordType::CAA, Reply::Records(vec![cname("loop.ours.test")]));
    for name in ["a.servfail.ours.test", "mangled.ours.test", "silent.ours.test", "loop.ours.test"] {
        let CaaVerdict::Unknown(problem) = checked(&dns, name).await else { panic!("{name}") };
        assert_eq!(problem.kind, ProblemType::Dns);
        assert!(problem.detail.contains(name), "{problem}");
    }
}

#[tokio::test]
async fn aut_14_addresses_have_no_caa() {
    let identifier = Identifier::Ip("192.0.2.1".parse().unwrap());
    let request = CaaRequest {
        identifier: &identifier,
        wildcard: false,
        method: None,
        account_url: ACCOUNT,
        issuer_domains: &[],
        climb: &CLIMB,
    };
    assert_eq!(check(&request, &network(&[])).await, CaaVerdict::Permitted);
}

#[test]
fn aut_14_no_answer_from_the_wire_grants_without_naming_us() {
    let mut granted = 0;
    for input in corpus_and_mutations("dns_answer", 5000) {
        let Ok(records) = answer::caa_of_wire(&input) else { continue };
        let restricted = records.iter().any(|record| record.tag.eq_ignore_ascii_case("issue"));
        if restricted && plain(&records) {
            granted += 1;
            let text = |record: &CaaRecord| String::from_utf8_lossy(&record.value).to_ascii_lowercase();
            assert!(records.iter().any(|record| text(record).contains("ca.test")), "{records:?}");
        }
    }
    assert!(granted > 10, "{granted}");
}

/// What is asked of a name server that knows `ours.test` alone, and refuses what is above.
async fn climbed(name: &str, climb: &Climb) -> CaaVerdict {
    let dns = FakeDns::start().await;
    dns.set("test", RecordType::CAA, Reply::Code(ResponseCode::Refused)).set(
        "theirs.ours.test",
        RecordType::CAA,
        Reply::Records(vec![caa(false, "issue", "other.test")]),
    );
    let identifier = Identifier::Dns(name.into());
    let request = CaaRequest {
        identifier: &identifier,
        wildcard: false,
        method: None,
        account_url: ACCOUNT,
        issuer_domains: &[],
        climb,
    };
    check(&request, &network(&[&dns])).await
}

#[tokio::test]
async fn aut_14_the_climb_stops_at_zones_that_one_owns() {
    let CaaVerdict::Unknown(problem) = climbed("a.ours.test", &CLIMB).await else {
        panic!("test was not asked")
    };
    for setting in ["caa.stop_at", "caa.check"] {
        assert!(problem.detail.contains(setting), "what to do: {problem}");
    }
    let owned = Climb { stop_at: vec!["else.test".into(), "Ours.test".into()], ..CLIMB };
    assert_eq!(climbed("a.ours.test", &owned).await, CaaVerdict::Permitted);
    assert_eq!(climbed("ours.test", &owned).await, CaaVerdict::Permitted);
    let CaaVerdict::Forbidden(_) = climbed("a.theirs.ours.test", &owned).await else { panic!("within it") };
    let CaaVerdict::Unknown(_) = climbed("yours.test", &owned).await else { panic!("not below it") };
    // The zone itself is asked.
    let inclusive = Climb { stop_at: vec!["theirs.ours.test".into()], ..CLIMB };
    let CaaVerdict::Forbidden(_) = climbed("a.theirs.ours.test", &inclusive).await else {
        panic!("the zone")
    };
}

#[tokio::test]
async fn aut_14_a_name_of_too_many_levels_is_forbidden_without_a_question() {
    let network = network(&[]);
    let verdict = async |labels: usize, stop_at: &[&str]| {
        let identifier = Identifier::Dns(format!("{}localhost", "a.".repeat(labels - 1)));
        let climb = Climb { stop_at: stop_at.iter().map(|zone| (*zone).to_owned()).collect(), ..CLIMB };
        let request = CaaRequest {
            identifier: &identifier,
            wildcard: false,
            method: None,
            account_url: ACCOUNT,
            issuer_domains: &[],
            climb: &climb,
        };
        check(&request, &network).await
    };
    assert_eq!(verdict(16, &[]).await, CaaVerdict::Permitted);
    for labels in [17, 122] {
        let CaaVerdict::Forbidden(problem) = verdict(labels, &[]).await else { panic!("{labels}") };
        assert!(problem.kind == ProblemType::Caa && problem.detail.contains("caa.max_levels"), "{problem}");
    }
    // What is not asked does not count.
    assert_eq!(verdict(17, &["a.localhost"]).await, CaaVerdict::Permitted);
}
