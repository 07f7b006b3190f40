//! What operators start from is held to the code: settings, metrics, versions, and the programs that read the files.

mod balancer;
mod image;
mod monitoring;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use chancery::acme::profile::AuthorizationMode;
use chancery::config::{Config, Sources};
use yaml_rust2::{Yaml, YamlLoader};

use crate::docs::{read, root, unknown_variables, words};
use crate::support::foreign;
use crate::support::run::folder;

/// All files below deploy/.
fn files() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&root().join("deploy"), &mut found);
    found.sort();
    found
}

fn with_extension(extension: &'static str) -> impl Iterator<Item = PathBuf> {
    files().into_iter().filter(move |path| path.extension().is_some_and(|found| found == extension))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a program in a folder; it must be content.
fn content(folder: &str, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root().join(folder)).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (`make test` installs it)"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn every_file_can_be_parsed() {
    let mut count = 0;
    for path in with_extension("yaml") {
        let documents = YamlLoader::load_from_str(&text(&path));
        let documents = documents.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += documents.iter().filter(|document| !document.is_null()).count();
    }
    assert!(count > 25, "{count} documents");
    for path in with_extension("json") {
        serde_json::from_str::<serde_json::Value>(&text(&path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn variables_are_settings() {
    let mut unknown = Vec::new();
    for path in files() {
        let names = unknown_variables(&text(&path));
        unknown.extend(names.iter().map(|name| format!("{}: {name}", path.display())));
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let page = read("docs/metrics.md");
    let exist: BTreeSet<String> = words(&page).filter(|word| word.starts_with("chancery_")).collect();
    let histograms: BTreeSet<&str> = page
        .lines()
        .filter(|row| row.split(" | ").nth(1).is_some_and(|kind| kind.starts_with("histogram")))
        .filter_map(|row| row.split('`').nth(1))
        .collect();
    assert!(exist.len() > 30 && histograms.len() > 5, "{exist:?}, {histograms:?}");
    for file in ["deploy/grafana/chancery.json", "deploy/prometheus/alerts.yaml"] {
        let asked: BTreeSet<String> =
            words(&read(file)).filter(|word| word.starts_with("chancery_")).collect();
        assert!(asked.len() > 10, "{file} asks for {asked:?}");
        for name in asked {
            let of_histogram = name.strip_suffix("_bucket").is_some_and(|name| histograms.contains(name));
            let plain = exist.contains(&name) && !histograms.contains(name.as_str());
            assert!(of_histogram || plain, "{file} asks for {name}");
        }
    }
}

#[test]
fn alerts_fire_for_their_faults_and_for_nothing_else() {
    content("deploy/prometheus", "promtool", &["check", "rules", "alerts.yaml"]);
    content("deploy/prometheus", "promtool", &["test", "rules", "alerts.test.yaml"]);
    let tested = read("deploy/prometheus/alerts.test.yaml");
    for group in yaml("deploy/prometheus/alerts.yaml")[0]["groups"].as_vec().expect("groups") {
        for rule in group["rules"].as_vec().expect("rules") {
            let name = rule["alert"].as_str().expect("a name");
            assert!(tested.contains(&format!("- name: {name}\n")), "{name} has no test");
            let runbook = rule["annotations"]["runbook"].as_str().expect("a runbook");
            let (page, anchor) = runbook.split_once('#').unwrap_or((runbook, ""));
            let headings: Vec<String> = read(page)
                .lines()
                .filter_map(|line| {
                    line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))
                })
                .map(|heading| heading.to_lowercase().replace(' ', "-"))
                .collect();
            assert!(anchor.is_empty() || headings.iter().any(|found| found == anchor), "{name}: {runbook}");
        }
    }
}

/// A configuration of deploy/, with the files that name its stores.
fn load(file: &str) -> Config {
    let home = folder("deploy");
    let mut text = read(file);
    let key = "mZJyD6o9Ez0q0kq3mPqFh3r2qRkO1G2zv5m0Z8n4s1w=";
    for (name, url) in [
        ("database-url", "postgres://db.test/chancery"),
        ("redis-url", "redis://redis.test"),
        ("eab-key", key),
    ] {
        let path = home.join(name);
        std::fs::write(&path, url).expect("written");
        for folder in ["/etc/chancery/stores", "/etc/chancery"] {
            text = text.replace(&format!("{folder}/{name}"), &path.display().to_string());
        }
    }
    let path = home.join("chancery.toml");
    std::fs::write(&path, text).expect("written");
    let sources = Sources { file: Some(path), ..Sources::default() };
    Config::load(&sources).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn pods_are_given_the_time_that_their_configuration_needs_to_stop() {
    let pod = &yaml("deploy/kubernetes/base/deployment.yaml")[0]["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_i64().expect("a grace period");
    for file in [
        "deploy/kubernetes/base/chancery.toml",
        "deploy/kubernetes/overlays/example/chancery.toml",
        "deploy/cert-manager/overlay/chancery.toml",
    ] {
        let config = load(file);
        let needed = config.shutdown_delay + config.shutdown_timeout;
        assert!(needed.as_secs() + 10 <= grace.unsigned_abs(), "{file}: {needed:?} of {grace} s");
        assert_eq!(
            (config.listen.port(), config.ops_listen.port()),
            (14000, 14001),
            "{file}: the pod's ports"
        );
    }
}

/// What is copied from here must not give names away: a profile without challenges is for accounts with a key.
#[test]
fn shipped_profiles_trust_only_accounts_that_were_handed_a_key() {
    let mut found = 0;
    for file in [
        "deploy/config.example.toml",
        "deploy/kubernetes/overlays/example/chancery.toml",
        "deploy/cert-manager/overlay/chancery.toml",
    ] {
        let config = load(file);
        let trusted = config.profiles.values().filter(|p| p.authorization == AuthorizationMode::Trusted);
        for profile in trusted {
            found += 1;
            assert!(profile.external_account_required, "{file}: {}", profile.name);
        }
    }
    assert_eq!(found, 3);
    let compose = yaml("deploy/container/compose.yaml");
    let environment = &compose[0]["x-chancery"]["environment"];
    assert_eq!(environment["CHANCERY_PROFILES_TRUSTED_AUTHORIZATION"].as_str(), Some("trusted"));
    let bound = environment["CHANCERY_PROFILES_TRUSTED_EXTERNAL_ACCOUNT_REQUIRED"].as_str();
    assert_eq!(bound, Some("true"));
    let mut shown = 0;
    for page in ["configuration", "getting-started", "external-accounts", "cert-manager"] {
        let page = read(&format!("docs/{page}.md"));
        let paragraphs = page.split("\n\n").filter(|part| part.contains("authorization = \"trusted\""));
        for paragraph in paragraphs {
            shown += 1;
            assert!(paragraph.contains("external_account_required = true"), "{paragraph}");
        }
        assert!(page.contains("chancery eab create"));
    }
    assert_eq!(shown, 4);
}

#[test]
fn images_are_of_this_version() {
    for file in
        ["deploy/kubernetes/base/kustomization.yaml", "deploy/kubernetes/overlays/example/kustomization.yaml"]
    {
        let tag = yaml(file)[0]["images"][0]["newTag"].as_str().map(str::to_owned);
        assert_eq!(tag.as_deref(), Some(env!("CARGO_PKG_VERSION")), "{file}");
    }
}

#[test]
fn cert_manager_is_told_to_be_the_version_that_was_run() {
    let pins = read("tests/foreign/cert-manager/go.mod");
    let version =
        pins.lines().find_map(|line| line.trim().strip_prefix("github.com/cert-manager/cert-manager v"));
    let version = version.expect("a pin");
    for (file, said) in [
        ("docs/cert-manager.md", format!("| {version}, with `ACMEUseARI=true` |")),
        ("docs/kubernetes.md", format!("cert-manager {version}'s resource definitions")),
        (
            "deploy/cert-manager/install-cert-manager",
            format!("version=${{CERT_MANAGER_VERSION:-v{version}}}"),
        ),
    ] {
        assert!(read(file).contains(&said), "{file}: {said}");
    }
}

/// The code block of docs/kubernetes.md behind these words.
fn block_after(words: &str) -> String {
    let page = read("docs/kubernetes.md");
    let (_, rest) = page.split_once(words).unwrap_or_else(|| panic!("{words}"));
    rest.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block").to_owned()
}

/// An overlay beside those of deploy/kubernetes, in a copy of that folder: the trial, with these lines.
fn overlay_with(lines: &str) -> PathBuf {
    let (home, from) = (folder("overlay"), root().join("deploy/kubernetes"));
    for file in files() {
        let Ok(below) = file.strip_prefix(&from) else { continue };
        let place = home.join(below);
        std::fs::create_dir_all(place.parent().expect("in a folder")).expect("a folder");
        std::fs::copy(&file, place).expect("copied");
    }
    let mine = home.join("overlays/mine");
    std::fs::create_dir(&mine).expect("a folder");
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../trial]\n";
    std::fs::write(mine.join("kustomization.yaml"), format!("{head}{lines}")).expect("written");
    mine
}

/// The trial with the autoscaler, as docs/kubernetes.md has it.
pub fn overlay_with_autoscaler() -> PathBuf {
    overlay_with(&block_after("or let an autoscaler do it"))
}

#[test]
#[ignore = "needs tests/foreign/build kustomize"]
fn kustomize_puts_the_manifests_together() {
    let built = foreign::folder_of("kustomize");
    let kustomize = built.join("kustomize").display().to_string();
    let five = overlay_with(&block_after("For more of them set `replicas` in your overlay:"));
    let (five, scaled) = (five.display().to_string(), overlay_with_autoscaler().display().to_string());
    for (overlay, objects, replicas, needle) in [
        ("deploy/kubernetes/overlays/trial", 14, Some(3), "external_url = \"https://chancery.chancery.svc\""),
        ("deploy/kubernetes/overlays/example", 9, Some(3), "external_url = \"https://acme.example.net\""),
        ("deploy/cert-manager/overlay", 14, Some(3), "[profiles.trusted]"),
        (&five, 14, Some(5), "external_url = \"https://chancery.chancery.svc\""),
        // Each apply would take back what the autoscaler did.
        (&scaled, 15, None, "external_url = \"https://chancery.chancery.svc\""),
    ] {
        let text = content(overlay, &kustomize, &["build", "."]);
        let documents = YamlLoader::load_from_str(&text).expect("YAML");
        assert_eq!(documents.len(), objects, "{overlay}: {text}");
        let of_kind = |kind: &str| documents.iter().find(|found| found["kind"].as_str() == Some(kind));
        let map = of_kind("ConfigMap").expect("a ConfigMap");
        let configuration = map["data"]["chancery.toml"].as_str().unwrap_or_default();
        assert!(configuration.contains(needle), "{overlay}: {configuration}");
        // Another configuration is another name, so that it rolls the replicas.
        let name = map["metadata"]["name"].as_str().expect("a name");
        let deployment = of_kind("Deployment").expect("a Deployment");
        assert_eq!(deployment["spec"]["replicas"].as_i64(), replicas, "{overlay}");
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["configMap"]["name"].as_str(), Some(name), "{overlay}");
        assert!(name.starts_with("chancery-"), "{overlay}: {name}");
        let scaler = of_kind("HorizontalPodAutoscaler").map(|found| &found["spec"]["scaleTargetRef"]);
        assert_eq!(scaler.is_some(), replicas.is_none(), "{overlay}");
        let target = scaler.map_or("chancery", |target| target["name"].as_str().unwrap_or_default());
        assert_eq!(deployment["metadata"]["name"].as_str(), Some(target), "{overlay}");
    }
}

#[test]
fn scripts_are_clean() {
    let scripts: Vec<String> = files()
        .iter()
        .chain([&root().join("scripts/install")])
        .filter(|path| text(path).starts_with("#!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(scripts.len() >= 5, "{scripts:?}");
    content(".", "shellcheck", &scripts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_kind_harness_says_loudly_that_it_is_skipped() {
    let run = Command::new(root().join("deploy/cert-manager/run")).env_remove("KIND_AVAILABLE").output();
    let run = run.expect("it starts");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success() && said.contains("NOT RUN") && said.contains("KIND_AVAILABLE=1"), "{said}");
}
