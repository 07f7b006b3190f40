//! cert-manager's own controllers, on a real Kubernetes API server and without containers, against three replicas
//! behind HAProxy: with the Issuers and Certificates of docs/cert-manager.md.

mod page;
mod program;
mod stand;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::cert_manager::page::Page;
use crate::cert_manager::program::{Program, Run, wait};
use crate::cert_manager::stand::Stand;
use crate::clients::program::finish;
use crate::deploy::overlay_with_autoscaler;
use crate::support::foreign::folder_if_built;
use crate::support::postgres::TableLock;
use crate::support::run::{folder, runtime};

/// How many Certificates are made at once.
const BURST: usize = 50;

/// What operators have kustomize put together.
const OVERLAYS: [&str; 3] =
    ["deploy/kubernetes/overlays/trial", "deploy/kubernetes/overlays/example", "deploy/cert-manager/overlay"];

/// One API server at a time: it is not a small program.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "needs tests/foreign/build etcd kube-apiserver cert-manager"]
fn cert_manager_issues_renews_and_outlives_what_fails() {
    let program = Program::built();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let page = Page::read();
    let stand = Stand::start(&page);
    let home = folder("cert-manager");
    let plan = json!({
        "dns_server": stand.bind.address().to_string(),
        "http01": format!("127.0.0.1:{}", stand.server.http_port),
        "root": stand.server.root,
        "folder": home,
        "objects": stand.here(&page.issuers()),
        "batches": batches(&page, &stand),
    });
    let run = program.scenarios(&plan, &home);

    meet_the_limit(&stand, &run);
    run.asked("without-redis");
    take_redis_away(&stand, || run.go("without-redis"));
    run.asked("without-finalize");
    runtime().block_on(keep_from_finalizing(&stand, || run.go("without-finalize")));
    run.asked("burst");
    stand.server.deployment.kill(1);
    run.has_result("burst");
    stand.server.deployment.restart(1);

    let results = run.results();
    for result in &results {
        eprintln!("{}", row(result));
    }
    let failed: Vec<_> = results.iter().filter(|result| result.get("error").is_some()).collect();
    assert!(failed.is_empty(), "{}\n{failed:#?}", run.tail());
    let names: Vec<_> = results.iter().filter_map(|result| result["scenario"].as_str()).collect();
    for name in [
        "trusted",
        "http",
        "wildcard",
        "members",
        "address",
        "refused",
        "without-redis",
        "without-finalize",
        "held",
        "limited",
        "burst",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    // Three were renewed; cert-manager may do so twice, when its caches are behind.
    let renewed = "SELECT count(*) >= 3 FROM orders WHERE replaces IS NOT NULL AND progress = 'valid'";
    assert_eq!(stand.query(renewed), "t");
    assert_eq!(
        stand.query("SELECT count(DISTINCT profile) FROM orders WHERE progress = 'valid'"),
        "4",
        "by the directory of a profile, by the field, and the default"
    );
}

/// What is done, one batch after the other.
fn batches(page: &Page, stand: &Stand) -> Value {
    let of_page = |name, challenge, renew| {
        let certificate = stand.here(&page.certificate(name));
        json!({"name": name, "certificates": certificate, "challenge": challenge, "renew": renew})
    };
    let held = |name: &str| {
        let certificate = certificate(name, &format!("dnsNames: [{name}.example.com]"), "chancery-http");
        json!({"name": name, "certificates": stand.here(&certificate), "challenge": "HTTP-01", "hold": true,
            "settled": true})
    };
    json!([
        [
            of_page("trusted", "", true),
            of_page("http", "HTTP-01", true),
            of_page("wildcard", "DNS-01", true),
            of_page("members", "HTTP-01", false),
            {
                "name": "address", "challenge": "HTTP-01",
                "certificates": certificate("address", "ipAddresses: [127.0.0.1]", "chancery-http"),
            },
            {
                "name": "refused", "refused": "rejectedIdentifier",
                "certificates": certificate("refused", "dnsNames: [other.test]", "chancery-trusted"),
            },
        ],
        [
            held("held"),
            {
                "name": "limited", "after": true, "refused": "too many active orders", "again": true,
                "certificates":
                    stand.here(&certificate("limited", "dnsNames: [limited.example.com]", "chancery-http")),
            },
        ],
        [held("without-redis")],
        [held("without-finalize")],
        [{
            "name": "burst", "challenge": "HTTP-01", "announce": BURST / 5,
            "certificates": stand.here(&burst()),
        }],
    ])
}

/// In the middle of an order: it is placed, and its challenge is being validated. Redis goes, every signed request is
/// answered 503, and when cert-manager has met that, Redis is back, without the nonces that cert-manager keeps.
fn take_redis_away(stand: &Stand, meanwhile: impl FnOnce()) {
    let before = stand.unavailable("");
    let redis = stand.server.deployment.redis().expect("a fleet has a Redis");
    redis.kill();
    meanwhile();
    wait("cert-manager is answered 503", || stand.unavailable("") > before);
    redis.restart_empty();
}

/// At the last step: every name is proven, but the database lets nobody change an order, only read it.
async fn keep_from_finalizing(stand: &Stand, meanwhile: impl FnOnce()) {
    let before = stand.unavailable("finalize");
    let database = stand.server.deployment.database().expect("a fleet has a database");
    let lock = TableLock::take(database, "orders", "EXCLUSIVE").await;
    meanwhile();
    wait("finalize is answered 503", || stand.unavailable("finalize") > before);
    drop(lock);
}

/// While an order of the account is pending, the operator lets it have one: the next is refused. Then the operator does
/// what the page says: raises the limit, and asks again.
fn meet_the_limit(stand: &Stand, run: &Run) {
    run.asked("held");
    let account = stand.query("SELECT account_id FROM orders ORDER BY created_at DESC LIMIT 1");
    let overriding = |words: &[&str]| {
        let read = || stand.server.deployment.log().matches("the overrides of limits were read").count();
        let before = read();
        stand.server.deployment.command(&[&["limits", "override"], words].concat());
        wait("every replica knows of it", || read() >= before + stand.server.deployment.size());
    };
    overriding(&["set", "active-orders", &account, "1"]);
    run.go("limited");
    run.asked("limited");
    overriding(&["set", "active-orders", &account, "1000"]);
    run.tell("limited.again");
    run.has_result("limited");
    // What comes behind this lives by the default.
    overriding(&["remove", "active-orders", &account]);
    run.go("held");
}

/// An API server takes what the manual shows and what deploy/ holds, as it lies there and as kustomize puts it together:
/// each object, every field.
#[test]
#[ignore = "needs tests/foreign/build etcd kube-apiserver cert-manager"]
fn an_api_server_takes_every_manifest() {
    let program = Program::built();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let page = Page::read();
    let shown = folder("manifests");
    std::fs::write(shown.join("cert-manager.yaml"), page.yaml()).expect("written");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deploy = ["deploy/kubernetes", "deploy/cert-manager"].map(|folder| root.join(folder));
    if let Some(kustomize) = folder_if_built("kustomize") {
        let overlays =
            OVERLAYS.map(|overlay| root.join(overlay)).into_iter().chain([overlay_with_autoscaler()]);
        for (at, overlay) in overlays.enumerate() {
            let text = finish(Command::new(kustomize.join("kustomize")).arg("build").arg(overlay));
            std::fs::write(shown.join(format!("overlay{at}.yaml")), text).expect("written");
        }
    }
    let mut command = Command::new(&program.path);
    let text = finish(command.arg("manifests").arg(&shown).args(deploy).envs(program.environment()));
    let taken = text.lines().filter(|line| line.ends_with(": taken")).count();
    assert!(taken > page.yaml().matches("\nkind: ").count() + 20, "{text}");
}

/// A row of the table in docs/cert-manager.md.
fn row(result: &Value) -> String {
    let text = |name| result[name].as_str().unwrap_or_default();
    let seconds = result["seconds"].as_f64().unwrap_or_default();
    format!("| {} | {} | {seconds:.1} s |", text("scenario"), text("detail"))
}

/// A Certificate with one more line of its `spec`.
fn certificate(name: &str, line: &str, issuer: &str) -> String {
    format!(
        "apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {{name: {name}, namespace: default}}
spec:
  secretName: {name}-tls
  {line}
  privateKey: {{algorithm: ECDSA}}
  issuerRef: {{kind: ClusterIssuer, name: {issuer}}}
"
    )
}

fn burst() -> String {
    let one = |at| {
        let name = format!("burst-{at}");
        certificate(&name, &format!("dnsNames: [{name}.example.com]"), "chancery-http")
    };
    (0..BURST).map(one).collect::<Vec<_>>().join("---\n")
}
