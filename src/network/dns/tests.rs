//! Against name servers that answer everything that name servers answer.

use std::time::Instant;

use hickory_resolver::proto::rr::rdata::A;

use super::*;
use crate::network::fakes::{FakeDns, Reply, caa, cname, config, network, txt};
use crate::network::{Network, NetworkConfig};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn a(address: &str) -> RData {
    RData::A(A(address.parse().unwrap()))
}

#[tokio::test]
async fn aut_10_addresses_are_ipv6_first_and_one_family_is_enough() {
    let dns = FakeDns::start().await;
    dns.host("both.test", &[ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")])
        .host("four.test", &[ip("192.0.2.1")])
        .host("six.test", &[ip("2001:db8::1")])
        .host("none.test", &[])
        .set("half.test", RecordType::A, Reply::Records(vec![a("192.0.2.3")]))
        .set("half.test", RecordType::AAAA, Reply::Code(ResponseCode::ServFail))
        .set("broken.test", RecordType::A, Reply::NoData)
        .set("broken.test", RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    let network = network(&[&dns]);
    let both = network.addresses("both.test").await.unwrap();
    assert_eq!(both, [ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.2")]);
    assert_eq!(network.addresses("four.test").await, Ok(vec![ip("192.0.2.1")]));
    assert_eq!(network.addresses("six.test").await, Ok(vec![ip("2001:db8::1")]));
    assert_eq!(network.addresses("half.test").await, Ok(vec![ip("192.0.2.3")]));
    let none = network.addresses("none.test").await.unwrap_err();
    assert_eq!(none.to_string(), "DNS has no A or AAAA records for none.test");
    let missing = network.addresses("missing.test").await.unwrap_err();
    assert_eq!(missing, DnsError::NoSuchName { name: "missing.test".into() });
    // That one family failed is not hidden behind the other's having none.
    let broken = network.addresses("broken.test").await.unwrap_err();
    assert!(broken.to_string().contains("AAAA records for broken.test failed"), "{broken}");
}

#[tokio::test]
async fn aut_11_strings_are_joined_aliases_followed_and_many_values_come_over_tcp() {
    let dns = FakeDns::start().await;
    let many: Vec<RData> = (0..300).map(|number| txt(&format!("value-{number}"))).collect();
    let long = "x".repeat(600);
    dns.set("_acme-challenge.a.test", RecordType::TXT, Reply::Records(vec![cname("b.test")]))
        .set("b.test", RecordType::TXT, Reply::Answer(vec![("b.test", cname("c.test"))]))
        .set(
            "c.test",
            RecordType::TXT,
            Reply::Answer(vec![("c.test", cname("d.test")), ("d.test", txt(&long)), ("e.test", txt("no"))]),
        )
        .set("many.test", RecordType::TXT, Reply::Truncated(many));
    let network = network(&[&dns]);
    let values = network.txt("_acme-challenge.a.test").await.unwrap();
    assert_eq!(values, [long.as_bytes()]);
    assert_eq!(dns.tcp_questions.load(Ordering::SeqCst), 0);
    let values = network.txt("many.test").await.unwrap();
    assert_eq!(values.len(), 300);
    assert_eq!(values[299], b"value-299");
    assert!(dns.tcp_questions.load(Ordering::SeqCst) >= 1);
}

#[tokio::test]
async fn aut_14_no_records_and_no_name_mean_empty_and_every_failure_is_an_error() {
    let dns = FakeDns::start().await;
    let records = vec![caa(true, "Issue", "ca.test; a=b")];
    dns.set("some.test", RecordType::CAA, Reply::Records(records.clone()))
        .set("empty.test", RecordType::CAA, Reply::NoData)
        .set("alias.test", RecordType::CAA, Reply::Records(vec![cname("some.test")]))
        .set("to-nothing.test", RecordType::CAA, Reply::Records(vec![cname("gone.test")]))
        .set("servfail.test", RecordType::CAA, Reply::Code(ResponseCode::ServFail))
        .set("refused.test", RecordType::CAA, Reply::Code(ResponseCode::Refused))
        .set("notimp.test", RecordType::CAA, Reply::Code(ResponseCode::NotImp))
        .set("odd.test", RecordType::CAA, Reply::Code(ResponseCode::Unknown(12)))
        .set("mangled.test", RecordType::CAA, Reply::Mangled(records.clone()))
        .set("referral.test", RecordType::CAA, Reply::Referral)
        .set("bad-tag.test", RecordType::CAA, Reply::Records(vec![caa(false, "is-sue", "ca.test")]))
        .set("loop.test", RecordType::CAA, Reply::Records(vec![cname("pool.test")]))
        .set("pool.test", RecordType::CAA, Reply::Records(vec![cname("loop.test")]));
    let network = network(&[&dns]);
    let found = CaaRecord { critical: true, tag: "Issue".into(), value: b"ca.test; a=b".to_vec() };
    assert_eq!(network.caa("some.test").await, Ok(vec![found.clone()]));
    assert_eq!(network.caa("alias.test").await, Ok(vec![found]));
    for empty in ["empty.test", "missing.test", "to-nothing.test"] {
        assert_eq!(network.caa(empty).await, Ok(Vec::new()), "{empty}");
    }
    for (failing, word) in [
        ("servfail.test", "Server Failure"),
        ("refused.test", "Refused"),
        ("notimp.test", "Not Implemented"),
        ("odd.test", "answered"),
        ("mangled.test", "cannot be read"),
        ("referral.test", "referral"),
        ("bad-tag.test", "cannot be read"),
        ("loop.test", "loop"),
    ] {
        let error = network.caa(failing).await.unwrap_err();
        assert!(error.to_string().contains(word), "{failing}: {error}");
    }
}

#[tokio::test]
async fn aut_14_silence_ends_in_time_over_udp_and_over_tcp() {
    let dns = FakeDns::start().await;
    dns.set("silent.test", RecordType::CAA, Reply::Silence).set(
        "cut.test",
        RecordType::CAA,
        Reply::TruncatedForEver,
    );
    let limit = Duration::from_millis(400);
    let network = Network::new(NetworkConfig { dns_timeout: limit, ..config(&[&dns]) }).unwrap();
    let start = Instant::now();
    let (silent, cut) = tokio::join!(network.caa("silent.test"), network.caa("cut.test"));
    for error in [silent.unwrap_err(), cut.unwrap_err()] {
        assert!(!error.is_negative(), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_fails_or_is_silent_is_overtaken_and_the_good_one_remembered() {
    let (silent, failing, good) = (FakeDns::start().await, FakeDns::start().await, FakeDns::start().await);
    silent.set("a.test", RecordType::TXT, Reply::Silence);
    failing.set("a.test", RecordType::TXT, Reply::Code(ResponseCode::ServFail));
    good.set("a.test", RecordType::TXT, Reply::Records(vec![txt("here")]));
    let network = network(&[&silent, &failing, &good]);
    assert_eq!(network.txt("a.test").await, Ok(vec![b"here".to_vec()]));
    assert!(failing.udp_questions.load(Ordering::SeqCst) >= 1);
    let before = silent.udp_questions.load(Ordering::SeqCst);
    assert_eq!(network.txt("a.test").await, Ok(vec![b"here".to_vec()]));
    assert!(network.txt("missing.test").await.unwrap_err().is_negative());
    assert_eq!(silent.udp_questions.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn aut_13_names_under_localhost_are_loopback_and_never_asked_for() {
    let dns = FakeDns::start().await;
    dns.set("a.localhost", RecordType::TXT, Reply::Records(vec![txt("value")]));
    let strict = NetworkConfig { allow_networks: Vec::new(), ..config(&[&dns]) };
    let local = Network::new(NetworkConfig { local_names: true, ..strict.clone() }).unwrap();
    let strict = Network::new(strict).unwrap();
    for network in [&local, &strict] {
        assert_eq!(network.addresses("a.LocalHost").await, Ok(vec![ip("127.0.0.1")]));
        assert_eq!(network.caa("localhost").await, Ok(Vec::new()));
    }
    assert!(strict.txt("a.localhost").await.unwrap_err().is_negative());
    assert_eq!(dns.udp_questions.load(Ordering::SeqCst), 0);
    // Only where they may be tried out, and only from servers that were named.
    assert_eq!(local.txt("a.localhost").await.unwrap(), [b"value"]);
    let unnamed = NetworkConfig { local_names: true, dns_servers: Vec::new(), ..config(&[&dns]) };
    if let Ok(unnamed) = Network::new(unnamed) {
        assert!(unnamed.txt("a.localhost").await.unwrap_err().is_negative());
    }
    let loopback = ip("127.0.0.1");
    assert!(local.permits(loopback, true).is_ok());
    assert!(local.permits(loopback, false).is_err());
    assert!(strict.permits(loopback, true).is_err());
    assert!(!is_local("localhost.test") && !is_local("notlocalhost"));
}
