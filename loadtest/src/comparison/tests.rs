//! A run written by hand: what the tables say of it can be worked out on paper.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::{folder, ratios, tables};

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn window(rate: f64, cpu_ms: f64, errors: u64) -> String {
    let issuances = (rate * 2.0) as u64;
    json!({
        "issuances_per_second": rate, "issuances": issuances, "per_second": [1, 1],
        "latency_us": {
            "new-order": {"count": 12, "mean": 1.0, "p50": 1, "p90": 1, "p99": 1, "max": 1},
            "issuance": {"count": 1, "mean": 1.0, "p50": 30_000, "p90": 1, "p99": 60_000, "max": 1},
            "finalize to valid": {"count": 1, "mean": 1.0, "p50": 2500, "p90": 1, "p99": 9000, "max": 1},
        },
        "errors": if errors == 0 { json!({}) } else {
            json!({"new-order: 400 badNonce": {"count": errors, "first": "x"}})
        },
        "bad_nonce_retries": 7, "longest_retry_after": 3,
        "cpu": {
            "servers": [{"name": "server:a", "cpu_ms": cpu_ms}, {"name": "store:b", "cpu_ms": cpu_ms}],
            "server_cpu_ms_each": 1.0, "generator_cpu_ms": 100.0, "machine_cpu_ms": 300.0 + 2.0 * cpu_ms,
            "seconds": 2.0, "units": issuances,
        },
        "memory": [
            {"name": "server:a", "peak_pss_kib": 10_240, "peak_rss_kib": 20_480},
            {"name": "store:b", "peak_pss_kib": 5120, "peak_rss_kib": 9000},
        ],
    })
    .to_string()
}

/// Two rounds of Chancery, a peer, Chancery, and one that never started. Both were measured at two
/// concurrencies.
fn run_by_hand(name: &str) -> Folder {
    let root = std::env::temp_dir().join(format!("chancery-comparison-{}-{name}", std::process::id()));
    for part in ["servers", "windows", "pairs", "limits"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    let put = |path: &str, text: String| fs::write(root.join(path), text).unwrap();
    put(
        "run.json",
        json!({
            "date": "2026-01-02", "machine": "2 cores", "cores": 2, "rounds": 2, "seconds": 2, "warmup": 1,
            "accounts": 4, "order_limit": 10, "reference": "chancery", "order": ["chancery", "peer", "silent", "missing"],
        })
        .to_string(),
    );
    put("servers/chancery.json", json!({"title": "Chancery", "two": "one database"}).to_string());
    put("servers/peer.json", json!({"title": "Peer", "version": "1.2", "two": "two folders"}).to_string());
    put("servers/silent.json", json!({"title": "Silent"}).to_string());
    put("servers/missing.json", json!({"title": "Missing", "absent": "needs a compiler"}).to_string());
    for (number, server, round, rate_at_4, rate_at_16, cpu_ms) in [
        (1, "chancery", 1, 90.0, 100.0, 200.0),
        (3, "peer", 1, 60.0, 40.0, 600.0),
        (5, "chancery", 1, 110.0, 140.0, 280.0),
        (7, "chancery", 2, 190.0, 200.0, 400.0),
        (9, "peer", 2, 80.0, 10.0, 400.0),
    ] {
        put(&format!("windows/{number}.{server}.r{round}.c4.json"), window(rate_at_4, cpu_ms, 0));
        put(&format!("windows/{}.{server}.r{round}.c16.json", number + 1), window(rate_at_16, cpu_ms, 1));
    }
    put("windows/20.silent.r1.c4.failed", "new-account was refused | 500\n".to_owned());
    put("pairs/chancery.json", window(50.0, 1.0, 0));
    put("pairs/peer.json", window(2.0, 1.0, 30));
    put("limits/peer.json", window(6.0, 1.0, 3));
    put("pairs/peer.note", "the second did not\nstart".to_owned());
    Folder(root)
}

#[test]
fn each_window_is_set_in_relation_to_the_reference_beside_it() {
    let folder = run_by_hand("ratios");
    let results = folder::read(&folder.0).unwrap();
    let peer = ratios::line(&results, "peer").unwrap();
    // Best at 4 flows: 60 and 80 a second. Chancery is best at 16: 100 and 140 around the first window, 200
    // before the second.
    assert_eq!(peer.concurrency, 4);
    let rates = peer.rate.unwrap();
    assert_eq!((rates.mean, rates.least, rates.most), (70.0, 60.0, 80.0));
    let ratio = peer.rate_ratio.unwrap();
    assert!((ratio.least - 80.0 / 200.0).abs() < 1e-9, "{ratio:?}");
    assert!((ratio.most - 60.0 / 120.0).abs() < 1e-9, "{ratio:?}");
    // 600 ms for 120 certificates; Chancery's windows at 16: 1 ms a certificate each.
    let cpu = peer.cpu.unwrap();
    assert_eq!((cpu.most, peer.cpu_of_all.unwrap().most), (5.0, 10.0));
    assert_eq!(peer.cpu_ratio.unwrap().most, 5.0);
    assert_eq!(peer.memory, Some((10.0, 15.0)));
    // Errors are those of all its windows.
    assert_eq!((peer.errors, peer.issuances), (2, 120 + 80 + 160 + 20));
}

#[test]
fn the_reference_is_its_own_measure() {
    let folder = run_by_hand("reference");
    let results = folder::read(&folder.0).unwrap();
    let line = ratios::line(&results, "chancery").unwrap();
    let ratio = line.rate_ratio.unwrap();
    assert_eq!((ratio.mean, ratio.least, ratio.most), (1.0, 1.0, 1.0));
}

#[test]
fn what_other_programs_used_is_told() {
    let folder = run_by_hand("others");
    let results = folder::read(&folder.0).unwrap();
    // 300 ms less the generator's 100 in 2 s.
    assert!((ratios::cores_of_others(&results).unwrap() - 0.1).abs() < 1e-9);
}

#[test]
fn tables_hold_every_server_measured_or_not() {
    let folder = run_by_hand("tables");
    let results = folder::read(&folder.0).unwrap();
    let rendered = tables::render(&results);
    let table = |name: &str| &rendered.iter().find(|(other, _)| *other == name).unwrap().1;
    let speed = table("speed");
    let peer = "| Peer | 70 | 0.45 (0.40 … 0.50) | 4 | 30 / 60 | 2.5 / 9.0 | 3 | 2 of 382, \
                most of them new-order: 400 badNonce |";
    assert!(speed.contains(peer), "{speed}");
    assert!(
        speed.contains("| Silent | – | – | 4 | – | – | – | windows that did not start: 1: new-account was")
    );
    assert!(speed.contains("refused \\| 500 |"), "{speed}");
    assert!(speed.contains("| Missing | not measured: needs a compiler |"), "{speed}");
    assert!(table("cost").contains("| Peer | 3.75 | 3.8 (2.5 … 5.0) | 7.50 |"), "{}", table("cost"));
    let pairs = table("pairs");
    assert!(pairs.contains("| orders let through where 10 are allowed |"), "{pairs}");
    let peer =
        "| Peer | two folders | 4 | 30 | 7 | the second did not start; 30 × new-order: 400 badNonce | 12 |";
    assert!(pairs.contains(peer), "{pairs}");
    assert!(
        pairs.contains("| Chancery | one database | 100 | 0 | 7 | nothing | it has no such limit |"),
        "{pairs}"
    );
    assert!(table("settings").contains("| Missing |  |  | needs a compiler |"));
    assert!(table("run").contains("Other programs used 0.10 cores"), "{}", table("run"));
}

#[test]
fn what_is_written_as_json_is_read_again() {
    let folder = run_by_hand("json");
    let results = folder::read(&folder.0).unwrap();
    let text = serde_json::to_string(&results).unwrap();
    let again: folder::Results = serde_json::from_str(&text).unwrap();
    assert_eq!(tables::render(&again), tables::render(&results));
}

/// A file of the project.
fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_page_has_a_place_for_every_table() {
    let folder = run_by_hand("page");
    let rendered = tables::render(&folder::read(&folder.0).unwrap());
    let text = fs::read_to_string(project("docs/comparison.md")).unwrap();
    let made = super::page::with_tables(&text, &rendered).unwrap();
    for (name, table) in &rendered {
        assert!(made.contains(table.as_str()), "{name}");
    }
}

#[test]
fn every_server_of_the_run_has_its_file_and_every_program_its_pins() {
    let run = fs::read_to_string(project("loadtest/peers/run")).unwrap();
    let order = run.lines().find_map(|line| line.strip_prefix("order=(")).unwrap().trim_end_matches(')');
    let mut listed: Vec<String> = order.split_whitespace().map(|name| format!("{name}.sh")).collect();
    let entries = fs::read_dir(project("loadtest/peers/servers")).unwrap().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".sh"))
        .collect();
    listed.sort();
    found.sort();
    assert_eq!(listed, found);
    for file in found.iter().map(|name| format!("servers/{name}")).chain(["run".into(), "stage.sh".into()]) {
        let path = project("loadtest/peers").join(file);
        let read = std::process::Command::new("bash").arg("-n").arg(&path).status().unwrap();
        assert!(read.success(), "{}", path.display());
        let text = fs::read_to_string(&path).unwrap();
        if let Some(foreign) = text.lines().find_map(|line| line.strip_prefix("foreign=")) {
            let install = project("tests/foreign").join(foreign).join("install");
            assert!(install.exists(), "{}", install.display());
        }
    }
}
