//! The scripts of `loadtest/k6` under Node, with stand-ins for k6, against three replicas behind HAProxy. They are to be
//! right and to run; what the load is, k6 says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::clients::balanced::Balanced;
use crate::clients::program::{client, finish, require, text};
use crate::clients::site::Site;
use crate::docs::read;
use crate::support::chancery::Settings;
use crate::support::foreign;
use crate::support::process::Process;
use crate::support::responder;
use crate::support::run::{folder, free_port, unique, wait_until, with_log};

/// How a run ends of which a threshold was not kept, as with k6.
const THRESHOLD_MISSED: i32 = 99;
/// By what limits on latency are multiplied: here servers are not optimised, and share few cores with other tests.
const PATIENCE: &str = "1000";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/k6")
}

/// A run of one script with these variables.
struct Run<'a> {
    home: &'a Path,
    root: &'a Path,
    script: &'a str,
    iterations: u32,
    variables: Vec<(&'a str, String)>,
    summary: PathBuf,
}

impl<'a> Run<'a> {
    fn of(site: &'a Site, script: &'a str, directory: String) -> Self {
        Self::at(&site.home, &site.root, script, directory)
    }

    /// In this folder, with this root for TLS.
    fn at(home: &'a Path, root: &'a Path, script: &'a str, directory: String) -> Self {
        let summary = home.join(format!("summary-{}.json", unique()));
        let variables = vec![
            ("ACME_DIRECTORY", directory),
            ("ACCOUNTS", "2".to_owned()),
            ("PAUSE_MS", "0".to_owned()),
            ("LATENCY_FACTOR", PATIENCE.to_owned()),
            ("SUMMARY_JSON", text(&summary)),
        ];
        Self { home, root, script, iterations: 12, variables, summary }
    }

    /// With another variable; the last one of a name counts.
    fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = client("node", self.home);
        command.env("NODE_EXTRA_CA_CERTS", self.root);
        command.arg(scripts().join("node/run.js")).args(["--vus", "3", "--iterations"]);
        command.arg(self.iterations.to_string());
        for (name, value) in &self.variables {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        command.arg(scripts().join(self.script));
        command
    }

    /// The metrics of a run in which every threshold was kept.
    fn succeeds(&self) -> Value {
        finish(&mut self.command());
        self.metrics()
    }

    /// The metrics of a run that ends because of a threshold.
    fn misses_a_threshold(&self) -> Value {
        let output = self.command().output().expect("it starts");
        assert_eq!(output.status.code(), Some(THRESHOLD_MISSED), "{}", said(&output));
        self.metrics()
    }

    fn metrics(&self) -> Value {
        let summary = std::fs::read_to_string(&self.summary).expect("the script wrote its summary");
        serde_json::from_str::<Value>(&summary).expect("JSON")["metrics"].take()
    }

    /// Asserts that each iteration brought a certificate, as the script has checked.
    fn issues_each_time(&self) -> Value {
        let metrics = self.succeeds();
        assert_eq!(metrics["acme_issuances"]["values"]["count"], self.iterations, "{metrics}");
        assert_eq!(requests(&metrics, "certificate"), u64::from(self.iterations));
        metrics
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// How many requests were counted under the name of a step.
fn requests(metrics: &Value, step: &str) -> u64 {
    let metric = &metrics[format!("http_req_duration{{name:{step}}}")];
    metric["values"]["count"].as_u64().unwrap_or_else(|| panic!("no {step} in {metrics}"))
}

#[test]
fn the_unsigned_requests_are_answered_as_expected() {
    let site = Site::fleet();
    let run = Run::of(&site, "acme_flow.js", site.directory.clone());
    let metrics = run.succeeds();
    for step in ["new_nonce", "new_nonce_get", "renewal_info", "wrong_method", "wrong_content_type"] {
        assert_eq!(requests(&metrics, step), u64::from(run.iterations), "{step}");
    }
    assert_eq!(metrics["http_req_failed"]["values"]["rate"], 0, "deliberate refusals are no failures");
}

#[test]
fn the_signed_flow_issues_on_trust() {
    let site = Site::fleet();
    site.every_replica_works(|| {
        let metrics = Run::of(&site, "signed_flow.js", site.directory_of("trusted")).issues_each_time();
        assert_eq!(requests(&metrics, "new_account"), 2);
    });
}

/// A server that permits one of everything, but for what the page has turned off.
#[test]
fn the_signed_flow_meets_no_limit_of_a_server_as_the_page_has_it() {
    let words = |file: &str| -> BTreeSet<String> {
        let limit = |word: &&str| word.starts_with("CHANCERY_LIMITS_");
        read(file).split_whitespace().filter(limit).map(str::to_owned).collect()
    };
    let (page, head) = (words("loadtest/README.md"), words("loadtest/k6/signed_flow.js"));
    assert_eq!(page, head, "the page and the head of the script");
    let mut settings = Settings::new();
    for limit in [
        "NEW_ORDERS_PER_HOUR",
        "ACTIVE_ORDERS",
        "KEY_CHANGES_PER_HOUR",
        "CHALLENGE_RESPONSES_PER_HOUR",
        "NEW_ACCOUNTS_PER_HOUR",
        "FAILED_VALIDATIONS_PER_HOUR",
        "DUPLICATE_CERTIFICATES_PER_DAY",
        "REFUSED_ACCOUNTS_PER_HOUR",
        "ACCOUNT_UPDATES_PER_HOUR",
        "DEACTIVATIONS_PER_HOUR",
        "REVOCATIONS_PER_HOUR",
    ] {
        settings = settings.set(&format!("CHANCERY_LIMITS_{limit}"), "1");
    }
    for (name, value) in page.iter().map(|word| word.split_once('=').expect("a value")) {
        settings = settings.set(name, value);
    }
    let balanced = Balanced::start(&settings);
    let directory = format!("{}/profiles/trusted/directory", balanced.base_url);
    let home = folder("k6");
    let metrics = Run::at(&home, &balanced.root, "signed_flow.js", directory).issues_each_time();
    assert_eq!(requests(&metrics, "new_account"), 2);
}

#[test]
fn the_signed_flow_binds_to_an_external_account() {
    let site = Site::fleet();
    let (kid, hmac) = site.external_account();
    // Each account of this profile is challenged, so nothing is issued: the binding is what counts here.
    let run = Run::of(&site, "signed_flow.js", site.directory_of("bound"));
    let run = run.with("ACCOUNTS", "1").with("EAB_KID", kid).with("EAB_HMAC", hmac);
    let metrics = run.misses_a_threshold();
    assert_eq!(requests(&metrics, "new_account"), 1);
    assert_eq!(metrics["acme_failures"]["values"]["count"], run.iterations, "{metrics}");
    // Without it there is no account, and the script ends in its setup.
    let unbound =
        Run::of(&site, "signed_flow.js", site.directory_of("bound")).command().output().expect("starts");
    assert!(!unbound.status.success());
    assert!(said(&unbound).contains("externalAccountRequired"), "{}", said(&unbound));
}

#[test]
fn the_signed_flow_answers_http_01_by_a_challenge_server() {
    require("pebble-challtestsrv");
    let site = Site::fleet();
    let management = format!("127.0.0.1:{}", free_port());
    let answers = format!("{}:{}", site.address, site.http_port);
    let server = Process::start(
        "pebble-challtestsrv",
        ["-http01", &answers, "-management", &management, "-dns01", "", "-https01", "", "-tlsalpn01", ""],
        &[],
        &site.home.join("challtestsrv.log"),
    );
    wait_until("the challenge server listens", || {
        assert!(server.is_running(), "{}", with_log("it ended", &server.log()));
        [&management, &answers].iter().all(|address| std::net::TcpStream::connect(address.as_str()).is_ok())
    });
    let name = format!("k6-{}", unique());
    let run = Run::of(&site, "signed_flow.js", site.directory.clone()).with("CHALLENGE", "http-01");
    let run = run.with("CHALLTESTSRV", format!("http://{management}"));
    let run = run.with("RUN", &name).with("DOMAIN", "chancery.test");
    for iteration in 0..run.iterations {
        responder::dns().add_address(&format!("{name}-{iteration}.chancery.test"), site.address.into());
    }
    let metrics = run.issues_each_time();
    assert_eq!(requests(&metrics, "challenge"), u64::from(run.iterations));
}

#[test]
fn a_missed_limit_and_a_failed_check_end_the_run() {
    let site = Site::fleet();
    // Nothing is answered in no time.
    let hurried = Run::of(&site, "acme_flow.js", site.directory.clone()).with("LATENCY_FACTOR", "0");
    let metrics = hurried.misses_a_threshold();
    assert_eq!(metrics["checks"]["thresholds"]["rate>0.999"]["ok"], true, "{metrics}");
    assert_eq!(metrics["http_req_duration{name:directory}"]["thresholds"]["p(95)<0"]["ok"], false);
    // This profile wants challenges, and none are answered.
    let untrusted = Run::of(&site, "signed_flow.js", site.directory.clone());
    let metrics = untrusted.misses_a_threshold();
    assert_eq!(metrics["checks"]["thresholds"]["rate>0.999"]["ok"], false, "{metrics}");
    assert_eq!(metrics["acme_issuances"]["values"]["count"], 0);
}

/// `jose` judges what is signed where it is in the cache; Node's own cryptography and openssl do in any case.
#[test]
fn what_the_scripts_are_made_of_holds() {
    let tests = std::fs::read_dir(scripts().join("test")).expect("a folder").flatten();
    let files: Vec<_> =
        tests.map(|entry| entry.path()).filter(|path| text(path).ends_with(".test.js")).collect();
    assert!(files.len() > 3, "the tests were found: {files:?}");
    let home = folder("k6");
    let mut node = client("node", &home);
    if let Some(types) = foreign::folder_if_built("k6-types") {
        let package = types.join("node_modules/jose/dist/webapi/index.js");
        assert!(package.is_file(), "{} is where jose's index is", package.display());
        node.env("CHANCERY_TEST_JOSE", package);
    }
    finish(node.arg("--test").args(files));
}

#[test]
#[ignore = "needs tests/foreign/build k6-types"]
fn the_scripts_keep_to_the_types_of_k6() {
    let types = foreign::folder_of("k6-types");
    require("node");
    let check = scripts().join("check-types");
    finish(&mut Command::new(&check));

    // What is not k6's is found, so the check looks at the scripts.
    let home = folder("k6-types");
    for file in
        std::fs::read_dir(scripts()).expect("a folder").flatten().filter(|entry| entry.path().is_file())
    {
        std::fs::copy(file.path(), home.join(file.file_name())).expect("copied");
    }
    let script = home.join("acme_flow.js");
    let right = std::fs::read_to_string(&script).expect("readable");
    for (part, wrong) in [
        ("return readDirectory(transport, DIRECTORY);", "return fetch(DIRECTORY);"),
        ("duration: __ENV.DURATION || \"5m\",", "duration: 300,"),
        ("checks: [\"rate>0.999\"],", "checks: 0.999,"),
    ] {
        assert!(right.contains(part), "{part} is in the script");
        std::fs::write(&script, right.replace(part, wrong)).expect("written");
        let output = Command::new(&check).arg(&home).output().expect("it starts");
        assert!(!output.status.success(), "{wrong} was let through, with {}", types.display());
        assert!(said(&output).contains("acme_flow.js("), "{}", said(&output));
    }
}
