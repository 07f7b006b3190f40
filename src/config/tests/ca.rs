//! Where certificates say that CRLs and issuers are found.

use super::{loaded, refused};

#[test]
fn certificates_name_a_plain_listener_where_there_is_one() {
    let where_is = |environment: &[(&str, &str)]| {
        let config = loaded(environment);
        let warned = config.warnings().iter().any(|warning| warning.contains("ca.public_url"));
        assert_eq!(warned, config.ca.public_url.starts_with("https://"));
        (config.ca.listen.map(|at| at.to_string()).unwrap_or_default(), config.ca.public_url)
    };
    let pair = |listen: &str, url: &str| (listen.to_owned(), url.to_owned());
    assert_eq!(where_is(&[]), pair("127.0.0.1:14002", "http://localhost:14002"));
    let elsewhere = [("CHANCERY_LISTEN", "0.0.0.0:443"), ("CHANCERY_EXTERNAL_URL", "https://ca.test/acme")];
    assert_eq!(where_is(&elsewhere), pair("0.0.0.0:14002", "http://ca.test:14002"));
    let off = ("CHANCERY_CA_LISTEN", "off");
    assert_eq!(where_is(&[off]), pair("", "https://localhost:14000"));
    let port_80 = [("CHANCERY_CA_LISTEN", "[::]:80"), ("CHANCERY_EXTERNAL_URL", "https://[::1]:14000")];
    assert_eq!(where_is(&port_80), pair("[::]:80", "http://[::1]"));
    assert_eq!(where_is(&[("CHANCERY_EXTERNAL_URL", "http://ca.test")]), pair("", "http://ca.test"));
    let given = [off, ("CHANCERY_CA_PUBLIC_URL", "http://ca.test")];
    assert_eq!(where_is(&given), pair("", "http://ca.test"));
    // A fleet has a balancer, whose business it is.
    let mut fleet = vec![
        ("CHANCERY_DATABASE_URL", "postgres://ca@db/ca"),
        ("CHANCERY_REDIS_URL", "redis://cache"),
        ("CHANCERY_CA_CERT", "issuing.pem"),
        ("CHANCERY_CA_KEY", "issuing.key"),
        ("CHANCERY_EXTERNAL_URL", "https://ca.test"),
    ];
    assert_eq!(where_is(&fleet), pair("", "https://ca.test"));
    fleet.push(("CHANCERY_CA_LISTEN", "10.0.0.1:8080"));
    assert_eq!(where_is(&fleet), pair("10.0.0.1:8080", "http://ca.test:8080"));
}

#[test]
fn listeners_have_an_address_each() {
    let said = refused(&[("CHANCERY_CA_LISTEN", "127.0.0.1:14001")]);
    assert!(said.contains("ops.listen and ca.listen are both 127.0.0.1:14001"), "{said}");
    assert!(refused(&[("CHANCERY_CA_LISTEN", "on")]).contains("or off"));
}
