//! What docs/kubernetes.md has Prometheus do: each replica is scraped, once, under a name of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http_body_util::Full;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::{block_after, yaml};
use crate::support::process::Process;
use crate::support::run::{SOON, folder, free_port, runtime, with_log};
use crate::support::transport::{Connections, Endpoint, Version};

const REPLICAS: usize = 3;

/// The ports of the Deployment's container: name and number.
fn container_ports() -> Vec<(String, i64)> {
    let pod = &yaml("deploy/kubernetes/base/deployment.yaml")[0]["spec"]["template"]["spec"];
    let ports = pod["containers"][0]["ports"].as_vec().expect("ports");
    let port = |port: &Yaml| Some((port["name"].as_str()?.to_owned(), port["containerPort"].as_i64()?));
    ports.iter().map(|found| port(found).expect("a name and a number")).collect()
}

/// What the role `endpoints` makes of the base (by Prometheus's manual): of each Service and replica a target for the
/// Service's port, and one for each other port of the container. Debian's Prometheus has no eyes for Kubernetes.
fn discovered() -> Vec<Value> {
    let mut found = Vec::new();
    for service in yaml("deploy/kubernetes/base/services.yaml") {
        let port = &service["spec"]["ports"][0];
        for (at, (name, number)) in
            (0..REPLICAS).flat_map(|at| container_ports().into_iter().map(move |port| (at, port)))
        {
            let mut labels = json!({
                "__meta_kubernetes_namespace": "chancery",
                "__meta_kubernetes_service_name": service["metadata"]["name"].as_str(),
                "__meta_kubernetes_pod_name": format!("chancery-{at}"),
                "__meta_kubernetes_pod_container_name": "chancery",
                "__meta_kubernetes_pod_container_port_name": name,
            });
            if port["targetPort"].as_str() == Some(&name) {
                labels["__meta_kubernetes_endpoint_port_name"] = json!(port["name"].as_str());
            }
            found.push(json!({"targets": [format!("192.0.2.{}:{number}", at + 1)], "labels": labels}));
        }
    }
    found
}

/// The targets of Prometheus under this configuration, once there are so many: those it scrapes, and those it drops.
async fn targets(configuration: &str, count: usize) -> (Vec<Value>, Vec<Value>) {
    let home = folder("prometheus");
    let file = home.join("prometheus.yml");
    std::fs::write(&file, configuration).expect("written");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", home.join("data").display()),
        format!("--web.listen-address={listen}"),
    ];
    let prometheus = Process::start("prometheus", arguments, &[], &home.join("log"));
    let (endpoint, connections) = (Endpoint::plain(listen), Connections::default());
    let ask = || async {
        let request = http::Request::get("http://localhost/api/v1/targets").body(Full::default());
        let answer =
            connections.exchange(&endpoint, Version::Http1, request.expect("a request")).await.ok()?;
        let mut answer: Value = serde_json::from_slice(answer.body()).ok()?;
        let mut of = |state: &str| Some(answer["data"][state].as_array_mut()?.split_off(0));
        let (scraped, dropped) = (of("activeTargets")?, of("droppedTargets")?);
        (scraped.len() + dropped.len() >= count).then_some((scraped, dropped))
    };
    let wait = async {
        loop {
            assert!(prometheus.is_running(), "{}", with_log("Prometheus ended", &prometheus.log()));
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(SOON, wait).await;
    found.unwrap_or_else(|_| panic!("{}", with_log(format!("no {count} targets"), &prometheus.log())))
}

#[test]
fn the_scrape_job_has_one_target_for_each_replica() {
    let job = block_after("Without it, as a scrape job:");
    let (head, rest) = job.split_once("  kubernetes_sd_configs:\n").expect("it asks Kubernetes");
    let (asked, rules) = rest.split_once("  relabel_configs:\n").expect("it has rules");
    assert!(asked.contains("- role: endpoints\n"), "{asked}");
    let all = discovered();
    let known = serde_json::to_string(&all).expect("JSON");
    let text = format!("scrape_configs:\n{head}  static_configs: {known}\n  relabel_configs:\n{rules}");
    let (scraped, dropped) = runtime().block_on(targets(&text, all.len()));
    assert_eq!(scraped.len() + dropped.len(), all.len());
    let (_, ops) = container_ports().into_iter().find(|(name, _)| name == "ops").expect("its port");
    let instances: BTreeSet<_> =
        scraped.iter().map(|target| target["labels"]["instance"].to_string()).collect();
    assert_eq!((scraped.len(), instances.len()), (REPLICAS, REPLICAS), "{scraped:#?}");
    for target in &scraped {
        let url = target["scrapeUrl"].as_str().expect("a URL");
        assert!(url.ends_with(&format!(":{ops}/metrics")), "{target}");
        assert_eq!(target["labels"]["job"], "chancery", "alerts.yaml counts over this job");
    }
}

#[test]
fn the_service_monitor_finds_the_service_of_the_operations_listener() {
    let monitor = YamlLoader::load_from_str(&block_after("With the Prometheus operator:")).expect("YAML");
    let spec = &monitor[0]["spec"];
    let wanted = spec["selector"]["matchLabels"].as_hash().expect("labels");
    let services = yaml("deploy/kubernetes/base/services.yaml");
    let labels = |service: &Yaml, name: &Yaml| service["metadata"]["labels"].as_hash()?.get(name).cloned();
    let found: Vec<_> = services
        .iter()
        .filter(|service| wanted.iter().all(|(name, value)| labels(service, name).as_ref() == Some(value)))
        .collect();
    let [service] = found.as_slice() else { panic!("{} Services", found.len()) };
    assert_eq!(service["spec"]["ports"][0]["name"], spec["endpoints"][0]["port"]);
    let job = labels(service, &spec["jobLabel"]);
    assert_eq!(job.as_ref().and_then(Yaml::as_str), Some("chancery"), "alerts.yaml counts over this job");
}
