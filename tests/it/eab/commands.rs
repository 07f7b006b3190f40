//! The command line, what is refused at start, and real clients.

use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::{ENCRYPTION_KEY, Printed, bind, bound, create, listed};
use crate::support::chancery::{Deployment, Kind, Settings, refused, run};
use crate::support::flows::{Order, identifiers};
use crate::support::foreign;
use crate::support::keys::{Key, base64url};
use crate::support::run::{folder, free_port, runtime, unique_name};

#[test]
fn eab_the_command_line_makes_lists_and_revokes_keys() {
    let server = bound(Kind::Embedded);
    let key = create(&server, &["--profile", "bound", "--uses", "2", "--expires", "30d"]);
    let directory = format!("{}/profiles/bound/directory", server.base_url);
    for part in [
        format!("lego run --server {directory} "),
        format!("--eab --eab.kid {} --eab.hmac {}", key.kid, key.secret),
        format!("lego --server {directory} "),
        format!("--eab --kid {} --hmac {}", key.kid, key.secret),
        format!("--eab-kid {} --eab-hmac-key {}", key.kid, key.secret),
        format!("keyID: \"{}\"", key.kid),
        format!("secret: {}", key.secret),
        "It binds 2 accounts of profile \"bound\", until 20".to_owned(),
    ] {
        assert!(key.text.contains(&part), "{part} not in {}", key.text);
    }
    assert_eq!(key.octets().len(), 32);
    let line = listed(&server, &key.kid);
    assert_eq!((&line[1..4], line[5].as_str()), (&["live", "0", "2"].map(str::to_owned)[..], "bound"));
    for _ in 0..2 {
        assert!(server.command(&["eab", "revoke", &key.kid]).contains("is revoked"));
    }
    assert_eq!(listed(&server, &key.kid)[1], "revoked");
    let unknown = "0".repeat(32);
    let text = server.refused_command(&["eab", "revoke", &unknown]);
    assert!(text.contains(&format!("there is no external account key {unknown}")), "{text}");
    let text = server.refused_command(&["eab", "create", "--profile", "nowhere"]);
    assert!(text.contains("no profile \"nowhere\"; there are bound, default"), "{text}");
}

#[test]
fn eab_a_key_of_another_server_goes_on_as_it_is() {
    let server = bound(Kind::Fleet);
    let file = folder("eab-given").join("secret");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let path = file.display().to_string();
    let kid = unique_name().replace('.', "-");
    let command = ["eab", "create", "--kid", &kid, "--secret-file", &path];
    for wrong in ["", "c2hvcnQ", "not base64url!"] {
        write(wrong);
        let text = server.refused_command(&command);
        assert!(text.contains("does not hold an HMAC key of 16 octets or more"), "{text}");
    }
    // 48 octets, as some servers make them; the newline is the editor's.
    let secret = base64url(&[7; 48]);
    write(&format!("{secret}\n"));
    let key = create(&server, &command[2..]);
    assert_eq!((key.kid.as_str(), key.secret.as_str()), (kid.as_str(), secret.as_str()));
    runtime().block_on(async {
        bind(&server, &key).await.1.expect(201);
    });
    assert_eq!(listed(&server, &kid)[2], "1");
    let text = server.refused_command(&command);
    assert!(text.contains(&format!("there is an external account key {kid}")), "{text}");
}

#[test]
fn eab_02_any_printable_ascii_names_a_key() {
    for kind in [Kind::Embedded, Kind::Fleet] {
        let server = bound(kind);
        let file = folder("eab-names").join("secret");
        std::fs::write(&file, base64url(&[9; 32])).expect("written");
        let path = file.display().to_string();
        let every: String = (' '..='~').collect();
        let mark = unique_name();
        for name in [
            format!("txra:agb:{mark}"),
            format!("-{mark}=="),
            format!("{mark} {every}"),
            format!("{mark}{}", "x".repeat(256 - mark.len())),
        ] {
            let key = create(&server, &["--kid", &name, "--secret-file", &path]);
            assert_eq!(key.kid, name);
            runtime().block_on(async {
                let (client, made) = bind(&server, &key).await;
                made.expect(201);
                client.read(client.account()).await.expect(200);
            });
            let list = server.command(&["eab", "list"]);
            assert!(list.lines().any(|line| line.contains(&mark) && line.contains("  used   ")), "{list}");
            let revoked = server.command(&["eab", "revoke", &name]);
            assert!(revoked.contains(&format!("{name} is revoked")), "{revoked}");
        }
        for name in ["a\tb", "é", &"x".repeat(257)] {
            let text = server.refused_command(&["eab", "create", "--kid", name, "--secret-file", &path]);
            assert!(text.contains("1 to 256 ASCII characters"), "{text}");
        }
    }
}

#[test]
fn eab_the_embedded_key_file_is_private_and_another_key_is_refused_at_start() {
    use std::os::unix::fs::PermissionsExt;
    let home = folder("eab");
    let environment = |key: &str| {
        [
            ("CHANCERY_DATA_DIR", home.join("data").display().to_string()),
            ("CHANCERY_EAB_ENCRYPTION_KEY", key.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    // Before any server was started.
    let text = run(&["eab", "create"], &environment(""));
    assert!(text.starts_with("kid:"), "{text}");
    let file = home.join("data/eab.key");
    assert_eq!(std::fs::metadata(&file).expect("the key file").permissions().mode() & 0o777, 0o600);
    let text = refused(&["serve"], &environment(ENCRYPTION_KEY));
    assert!(text.contains("was sealed under another eab.encryption_key"), "{text}");
    let text = refused(&["eab", "create"], &environment(ENCRYPTION_KEY));
    assert!(text.contains("was sealed under another eab.encryption_key"), "{text}");
}

#[test]
fn eab_a_fleet_whose_replica_lacks_the_key_is_refused_at_start() {
    let server = bound(Kind::Fleet);
    create(&server, &[]);
    let settings = [
        ("CHANCERY_DATABASE_URL", server.database().expect("a fleet").to_owned()),
        ("CHANCERY_REDIS_URL", server.redis().expect("a fleet").url()),
        ("CHANCERY_CA_CERT", "issuing.pem".to_owned()),
        ("CHANCERY_CA_KEY", "issuing.key".to_owned()),
    ];
    let environment = settings.map(|(name, value)| (name.to_owned(), value));
    let text = refused(&["eab", "create"], &environment);
    assert!(text.contains("eab.encryption_key is not set"), "{text}");
    let authority = folder("eab-authority");
    run(&["ca", "init", "--data-dir", &authority.display().to_string()], &[]);
    let mut environment = environment.to_vec();
    environment[2].1 = authority.join("issuing.pem").display().to_string();
    environment[3].1 = authority.join("issuing.key").display().to_string();
    let text = refused(&["serve"], &environment);
    assert!(text.contains("keys in the database, and eab.encryption_key is not set"), "{text}");
}

/// The default profile trusts whoever is bound: it would be refused at start if anyone could be.
fn strict() -> Arc<Deployment> {
    let settings = Settings::new()
        .set("CHANCERY_DEFAULT_PROFILE_AUTHORIZATION", "trusted")
        .set("CHANCERY_DEFAULT_PROFILE_EXTERNAL_ACCOUNT_REQUIRED", "true");
    Deployment::with(Kind::Embedded, &settings)
}

fn output(command: &mut Command) -> (bool, String) {
    let done = command.output().expect("the client starts");
    let text = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (done.status.success(), text)
}

#[test]
fn eab_lego_and_certbot_register_with_a_key() {
    let server = strict();
    let root = server.replica(0).data_dir.join("root.pem");
    let home = folder("eab-clients");
    let lego = |name: &str, binding: &[&str]| {
        let port = format!(":{}", free_port());
        output(
            Command::new("lego")
                .env("LEGO_CA_CERTIFICATES", &root)
                .args(["--server", &server.directory, "--accept-tos", "--email", "you@chancery.test"])
                .args(["--path", &home.join(name).display().to_string()])
                .args(binding)
                .args(["--domains", &unique_name(), "--http", "--http.port", &port, "run"]),
        )
    };
    let (done, text) = lego("without", &[]);
    assert!(!done && text.contains("External Account Binding"), "{text}");
    let key = create(&server, &[]);
    pasted(&server, "lego --server ", &key, "");
    let (done, text) = lego("again", &["--eab", "--kid", &key.kid, "--hmac", &key.secret]);
    assert!(!done && text.contains("as often as it may be"), "{text}");

    let certbot = |key: &Printed| {
        let folder = |name: &str| home.join(format!("certbot-{name}")).display().to_string();
        output(
            Command::new("certbot")
                .env("REQUESTS_CA_BUNDLE", &root)
                .args(["register", "--non-interactive", "--agree-tos", "--email", "you@chancery.test"])
                .args(["--server", &server.directory, "--eab-kid", &key.kid, "--eab-hmac-key", &key.secret])
                .args(["--config-dir", &folder("config"), "--work-dir", &folder("work")])
                .args(["--logs-dir", &folder("logs")]),
        )
    };
    let (done, text) = certbot(&key);
    assert!(!done, "{text}");
    let (done, text) = certbot(&create(&server, &[]));
    assert!(done && text.contains("Account registered"), "{text}");
}

#[test]
#[ignore = "needs tests/foreign/build lego"]
fn eab_lego_5_registers_with_a_key() {
    let built = foreign::folder_of("lego");
    let server = strict();
    let key = create(&server, &[]);
    pasted(&server, "lego run --server ", &key, &format!("{}:", built.display()));
}

/// Gives the printed command that begins so to a shell, whose PATH has `before` before all else; it must get a
/// certificate from an account that the key binds.
fn pasted(server: &Deployment, beginning: &str, key: &Printed, before: &str) {
    let home = folder("eab-pasted");
    let name = unique_name();
    let printed = key.text.replace("\\\n", " ").replace("--domains NAME", &format!("--domains {name}"));
    let command =
        printed.lines().map(str::trim).find(|line| line.starts_with(beginning)).expect("the command");
    let path = format!("{before}{}", std::env::var("PATH").expect("a path"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(&home).env("PATH", path).env("HOME", &home);
    let (done, text) = output(shell.env("LEGO_CA_CERTIFICATES", server.replica(0).data_dir.join("root.pem")));
    assert!(done, "{command}\n{text}");
    assert!(home.join(format!(".lego/certificates/{name}.crt")).is_file(), "{text}");
    assert_eq!(listed(server, &key.kid)[2], "1", "one account is bound");
}

#[test]
fn eab_a_certificate_needs_a_binding_where_the_default_profile_requires_one() {
    let server = strict();
    runtime().block_on(async {
        let client = server.client();
        client
            .new_account(json!({"termsOfServiceAgreed": true}))
            .await
            .problem(403, "externalAccountRequired");
        let (client, made) = bind(&server, &create(&server, &["--profile", "default"])).await;
        made.expect(201);
        let name = unique_name();
        let placed = client.new_order(json!({"identifiers": identifiers(&[&name])})).await.expect(201);
        client.collect(&Order::of(&placed), &[&name], Key::new()).await.chain.assert_ordered();
    });
}
