//! The shim from outside, as a suite that was written for Pebble meets it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "the modules of a test binary")]

mod kit;

use std::path::Path;
use std::process::{Command, Stdio};

use kit::{
    ACME, DNS, Folder, HTTP, MANAGEMENT, Place, Process, RESPONDER, Shim, command, configuration, finish,
    openssl, script, wait_until,
};
use serde_json::{Value, json};

const NO_SPOILED_NONCES: (&str, &str) = ("PEBBLE_WFE_NONCEREJECT", "0");

/// lego's arguments for http-01 where the shim looks.
fn by_http(shim: &Shim) -> [String; 3] {
    ["--http".to_owned(), "--http.port".to_owned(), format!(":{}", shim.place.port(HTTP))]
}

#[test]
fn the_directory_is_where_pebble_has_it_and_answers_are_chancerys() {
    let profiles = |configuration: &mut Value| {
        configuration["ocspResponderURL"] = json!("http://127.0.0.1:4002");
        configuration["profiles"] = json!({"default": {"description": "The first"}, "short": {"description": "Short", "validityPeriod": 60}});
    };
    let shim = Shim::start(profiles, &[NO_SPOILED_NONCES], &[]);
    let url = format!("https://{}/dir", shim.place.at(ACME));
    let directory: Value = serde_json::from_str(&shim.curl(&["--fail", &url])).unwrap();
    assert_eq!(directory["meta"]["profiles"], json!({"default": "The first", "short": "Short"}));
    assert_eq!(directory["meta"]["caaIdentities"], json!(["pebble.letsencrypt.org"]));
    let new_nonce = directory["newNonce"].as_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        let head = shim.curl(&[version, "--head", new_nonce]).to_ascii_lowercase();
        let protocol = if version == "--http2" { "http/2 200" } else { "http/1.1 200" };
        assert!(head.starts_with(protocol), "{head}");
        for line in ["replay-nonce: ", "cache-control: no-store", "link: <"] {
            assert!(head.contains(line), "no {line} in {head}");
        }
    }
    // POST-as-GET shows the same (RFC 8555 §6.3), with a nonce.
    for version in ["--http1.1", "--http2"] {
        let post = [
            version,
            "--fail",
            "--include",
            "--header",
            "content-type: application/jose+json",
            "--data",
            "{}",
            &url,
        ];
        let shown = shim.curl(&post);
        let (head, body) = shown.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), directory);
        let head = head.to_ascii_lowercase();
        assert!(head.contains("replay-nonce: ") && head.contains("cache-control: no-store"), "{head}");
    }
    // Problems come through with their media type and, since it is a POST, a nonce.
    let problem = shim.curl(&["--include", "--request", "POST", directory["newOrder"].as_str().unwrap()]);
    let problem = problem.to_ascii_lowercase();
    assert!(problem.contains("content-type: application/problem+json"), "{problem}");
    assert!(problem.contains("replay-nonce: "), "{problem}");
}

#[test]
fn a_certificate_is_issued_revoked_and_looked_up() {
    // Of five nonces one is spoiled: lego asks again.
    let shim = Shim::start(|_| (), &[("PEBBLE_WFE_NONCEREJECT", "20")], &[]);
    let (name, http) = ("a.localhost", by_http(&shim));
    finish(shim.lego(&["--domains", name]).args(&http).arg("run"));
    let chain = shim.certificate(name);
    shim.assert_verifies(&chain, &shim.managed("/roots/0"));
    let serial = openssl(&["x509", "-in", &chain, "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    let status = || -> Value {
        let path = format!("/cert-status-by-serial/{serial}");
        serde_json::from_str(&shim.managed(&path)).unwrap()
    };
    let valid = status();
    assert_eq!((&valid["Status"], valid.get("Reason")), (&json!("Valid"), None), "{valid}");
    assert_eq!(valid["Serial"], serial.to_lowercase().trim_start_matches('0'));
    let leaf = openssl(&["x509", "-in", &chain]);
    assert_eq!(valid["Certificate"].as_str().unwrap().trim(), leaf.trim());

    finish(shim.lego(&["--domains", name]).args(["revoke", "--reason", "4"]));
    let revoked = status();
    assert_eq!((&revoked["Status"], &revoked["Reason"]), (&json!("Revoked"), &json!(4)), "{revoked}");
    assert!(revoked["RevokedAt"].as_str().unwrap().ends_with(" +0000 UTC"), "{revoked}");
    for (path, code) in [("0", "404"), ("1234abcd", "404"), ("xyz", "400")] {
        assert_eq!(shim.managed_status(&format!("/cert-status-by-serial/{path}")), code, "{path}");
    }
    // Nothing is issued for what is on the block list, or below it.
    let output = shim.lego(&["--domains", "a.blocked.example"]).args(&http).arg("run").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("rejectedIdentifier"), "{text}");
}

#[test]
fn roots_intermediates_and_their_keys_are_shown() {
    let rsa = |configuration: &mut Value| configuration["keyAlgorithm"] = json!("rsa");
    let variables =
        [("PEBBLE_ALTERNATE_ROOTS", "1"), ("PEBBLE_CHAIN_LENGTH", "2"), ("PEBBLE_VA_ALWAYS_VALID", "1")];
    let shim = Shim::start(rsa, &variables, &[]);
    let key_of = |certificate: &str| {
        let file = shim.home.write("some.pem", certificate);
        openssl(&["x509", "-in", &file, "-noout", "-pubkey"])
    };
    let public = |key: &str| {
        assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{key}");
        let file = shim.home.write("some.key", key);
        openssl(&["pkey", "-in", &file, "-pubout"])
    };
    for (kind, keys) in [("/roots/", "/root-keys/"), ("/intermediates/", "/intermediate-keys/")] {
        for number in ["0", "1"] {
            let certificate = shim.managed(&format!("{kind}{number}"));
            assert_eq!(
                key_of(&certificate),
                public(&shim.managed(&format!("{keys}{number}"))),
                "{kind}{number}"
            );
        }
        for path in [format!("{kind}2"), format!("{keys}2"), format!("{kind}x")] {
            assert_eq!(shim.managed_status(&path), "404", "{path}");
        }
    }
    let head = shim.curl(&["--head", &format!("https://{}/roots/0", shim.place.at(MANAGEMENT))]);
    let link = format!("<https://{}/roots/1>;rel=\"alternate\"", shim.place.at(MANAGEMENT));
    assert!(head.contains(&link) && head.contains("application/pem-certificate-chain"), "{head}");

    // Trusted: no challenge is asked for, and nobody answers one. Each root is reached by a chain.
    let name = "trusted.example";
    finish(shim.lego(&["--domains", name]).args(by_http(&shim)).arg("run"));
    shim.assert_verifies(&shim.certificate(name), &shim.managed("/roots/0"));
    let other = shim.managed("/roots/1");
    let subject = openssl(&["x509", "-in", &shim.home.write("other.pem", &other), "-noout", "-subject"]);
    let preferred = subject.trim().rsplit(" = ").next().unwrap();
    finish(shim.lego(&["--domains", "b.example"]).args(by_http(&shim)).args([
        "run",
        "--preferred-chain",
        preferred,
    ]));
    shim.assert_verifies(&shim.certificate("b.example"), &other);
}

#[test]
fn accounts_are_bound_by_the_keys_of_the_configuration() {
    let (kid, secret) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");
    let required = |configuration: &mut Value| {
        configuration["externalAccountBindingRequired"] = json!(true);
        configuration["externalAccountMACKeys"] = json!({kid: secret});
    };
    let shim = Shim::start(required, &[("PEBBLE_VA_ALWAYS_VALID", "true")], &[]);
    let output = shim.lego(&["--domains", "a.example"]).args(by_http(&shim)).arg("run").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("requires External Account Binding"), "{text}");
    let eab = ["--domains", "a.example", "--eab", "--kid", kid, "--hmac", secret];
    finish(shim.lego(&eab).args(by_http(&shim)).arg("run"));
    shim.assert_verifies(&shim.certificate("a.example"), &shim.managed("/roots/0"));
}

#[test]
fn records_are_asked_of_the_suites_name_server() {
    let (place, home) = (Place::new(), Folder::new());
    let (dns, management) = (place.at(DNS), place.at(RESPONDER));
    let responder = Command::new("pebble-challtestsrv")
        .args(["-dns01", &dns, "-management", &management, "-http01", "", "-https01", "", "-tlsalpn01", ""])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _responder = Process(responder.expect("pebble-challtestsrv, which `make test` installs"));
    wait_until("the responder listens", || std::net::TcpStream::connect(&management).is_ok());
    let configuration = configuration(&place, &home);
    let shim = Shim::start_at(place, home, &configuration, &[], &["-dnsserver", &dns]);
    let hook = shim.home.0.join("hook");
    let post = format!("curl --silent --fail --noproxy '*' http://{management}");
    script(
        &hook,
        &format!(
            "case $1 in\n  present) {post}/set-txt --data \"{{\\\"host\\\": \\\"$2\\\", \\\"value\\\": \\\"$3\\\"}}\" ;;\n  \
             cleanup) {post}/clear-txt --data \"{{\\\"host\\\": \\\"$2\\\"}}\" ;;\nesac"
        ),
    );
    let mut lego = shim.lego(&["--domains", "*.a.example", "--dns", "exec", "--dns.disable-cp"]);
    lego.args(["--dns.resolvers", &dns, "run"]).env("EXEC_PATH", &hook).env("EXEC_POLLING_INTERVAL", "1");
    finish(&mut lego);
    shim.assert_verifies(&shim.certificate("_.a.example"), &shim.managed("/roots/0"));
}

#[test]
fn what_chancery_does_not_have_is_refused_at_the_start() {
    let refused = |change: fn(&mut Value), variables: &[(&str, &str)]| {
        let (place, home) = (Place::new(), Folder::new());
        let mut configuration = configuration(&place, &home);
        change(&mut configuration);
        let output = command(&home, &configuration, variables).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let pages = refused(|_| (), &[("PEBBLE_WFE_ORDERS_PER_PAGE", "15")]);
    assert!(pages.contains("PEBBLE_WFE_ORDERS_PER_PAGE=15 is not honoured"), "{pages}");
    // What only Chancery can judge, it says itself.
    let profile = refused(|configuration| configuration["profiles"] = json!({"Not_Ours": {}}), &[]);
    assert!(profile.contains("Not_Ours"), "{profile}");
    let version = finish(Command::new(env!("CARGO_BIN_EXE_pebble")).arg("-version"));
    assert!(version.starts_with("Pebble version: Chancery "), "{version}");
    let unknown = Command::new(env!("CARGO_BIN_EXE_pebble")).arg("-bogus").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn nothing_outlives_a_shim_that_is_killed() {
    let mut shim = Shim::start(|_| (), &[], &[]);
    shim.curl(&["--fail", &format!("https://{}/dir", shim.place.at(ACME))]);
    let folder = std::env::temp_dir().join(format!("chancery-pebble-{}", shim.process.0.id()));
    let configuration = std::fs::read_to_string(folder.join("config.toml")).unwrap();
    let listen =
        configuration.lines().find_map(|line| line.strip_prefix("listen = \"")?.strip_suffix('"')).unwrap();
    assert!(std::net::TcpStream::connect(listen).is_ok(), "Chancery listens at {listen}");
    // The signal that no process can act on.
    shim.process.0.kill().unwrap();
    shim.process.0.wait().unwrap();
    wait_until("Chancery and its folder are gone", || {
        std::net::TcpStream::connect(listen).is_err() && !Path::new(&folder).exists()
    });
    assert!(shim.log().contains("Pebble (Chancery): ready"), "{}", shim.log());
}
