//! Nonces over TLS, and on Sentinel and Cluster, with a fail-over each.

use std::time::{Duration, Instant};

use chancery::admission::{AdmissionError, NonceRefusal, Nonces, RedisConfig, RedisNonces};

use super::{ACCEPTED, LIFETIME, eventually, refused, replica, replicas};
use crate::support::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_a_server_that_is_trusted_only() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = std::env::temp_dir().join(format!("chancery-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let port = Redis::spare_port();
    let (cert, key) = (cert_file.display().to_string(), key_file.display().to_string());
    let _server = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://localhost:{port}");

    let stranger = RedisNonces::connect(RedisConfig::new(&url), LIFETIME).unwrap();
    let error = stranger.wait_until_ready(Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, AdmissionError::Unavailable(_)), "{error:?}");

    // Trusted roots are read from the environment, which only a process of its own can have to itself.
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "admission::topologies::tls_child", "--ignored"]);
    child.env("SSL_CERT_FILE", &cert_file).env("CHANCERY_TEST_REDIS", &url);
    let ran = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
#[ignore = "run by tls_is_spoken_with_a_server_that_is_trusted_only"]
async fn tls_child() {
    let Ok(url) = std::env::var("CHANCERY_TEST_REDIS") else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let nonces = replica(&url, LIFETIME).await;
    let nonce = nonces.mint().unwrap();
    assert_eq!(nonces.redeem(&nonce).await, ACCEPTED);
    assert_eq!(nonces.redeem(&nonce).await, refused(NonceRefusal::Spent));
}

/// A replica of `master`, and three sentinels that watch over both: with their URL.
pub(crate) async fn start_sentinels(master: &Redis) -> (Redis, Vec<Redis>, String) {
    let port = master.port().to_string();
    let promoted = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
    eventually("the replica follows", || async {
        promoted.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
    })
    .await;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(Redis::start_sentinel(master));
    }
    for sentinel in &sentinels {
        eventually("the sentinels know each other and the replica", || async {
            let seen: Vec<String> = sentinel.command(&["SENTINEL", "MASTER", "main"]).await;
            let field = |name| seen.iter().position(|text| text == name).map(|at| seen[at + 1].clone());
            field("num-other-sentinels").as_deref() == Some("2")
                && field("num-slaves").as_deref() == Some("1")
        })
        .await;
    }
    let hosts: Vec<_> = sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port())).collect();
    let url = format!("redis-sentinel://{}/main", hosts.join(","));
    (promoted, sentinels, url)
}

#[tokio::test]
async fn i_07_a_sentinel_fail_over_is_followed_and_readmits_nothing() {
    let master = Redis::start();
    let (promoted, _sentinels, url) = start_sentinels(&master).await;
    let [a, b, _] = replicas(&url, LIFETIME).await;
    let (unspent, spent, missed) = (a.mint().unwrap(), a.mint().unwrap(), a.mint().unwrap());
    assert_eq!(b.redeem(&spent).await, ACCEPTED);
    assert_eq!(a.redeem(&spent).await, refused(NonceRefusal::Spent));
    // A mark that the replica never gets to see.
    promoted.signal("STOP");
    assert_eq!(b.redeem(&missed).await, ACCEPTED);
    master.kill();
    promoted.signal("CONT");
    eventually("the replicas follow", || async { a.ping().await.is_ok() && b.ping().await.is_ok() }).await;
    for nonce in [&unspent, &spent, &missed] {
        assert_eq!(b.redeem(nonce).await, refused(NonceRefusal::Forged));
        assert_eq!(a.redeem(nonce).await, refused(NonceRefusal::Forged));
    }
    assert_eq!(b.redeem(&a.mint().unwrap()).await, ACCEPTED);
    assert!(promoted.keys().await.iter().all(|(_, ttl)| *ttl >= 0));
}

/// Three masters without replicas: with their URL.
pub(crate) async fn start_cluster() -> (Vec<Redis>, String) {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Redis::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-port",
            &Redis::spare_port(),
        ]));
    }
    for (index, node) in nodes.iter().enumerate() {
        let (first, last) = ([0, 5461, 10923][index].to_string(), [5460, 10922, 16383][index].to_string());
        node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        if index > 0 {
            let (port, bus) = (nodes[0].port().to_string(), nodes[0].cluster_port());
            node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
    }
    for node in &nodes {
        eventually("the cluster is whole", || async {
            let info: String = node.command(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    (nodes, format!("redis-cluster://{}", hosts.join(",")))
}

#[tokio::test]
async fn a_cluster_serves_nonces_and_a_restarted_node_readmits_nothing() {
    let (nodes, url) = start_cluster().await;
    let fleet = replicas(&url, LIFETIME).await;
    let (unspent, spent) = (fleet[0].mint().unwrap(), fleet[0].mint().unwrap());
    // What a node has on disk is older than the mark.
    for node in &nodes {
        node.command::<()>(&["SAVE"]).await;
    }
    assert_eq!(fleet[1].redeem(&spent).await, ACCEPTED);
    for index in 0..30 {
        let nonce = fleet[index % 3].mint().unwrap();
        assert_eq!(fleet[(index + 1) % 3].redeem(&nonce).await, ACCEPTED);
        assert_eq!(fleet[index % 3].redeem(&nonce).await, refused(NonceRefusal::Spent));
    }
    let mut holders = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        if node.command::<usize>(&["DBSIZE"]).await > 0 {
            holders.push(index);
        }
    }
    assert_eq!(holders.len(), 1, "all keys share a slot");
    let holder = &nodes[holders[0]];
    assert!(holder.keys().await.iter().all(|(_, ttl)| *ttl >= 0));

    holder.kill();
    let start = Instant::now();
    assert!(matches!(fleet[0].redeem(&unspent).await, Err(AdmissionError::Unavailable(_))));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    holder.start_again();
    for nonces in &fleet {
        eventually("the cluster is back", || async { nonces.ping().await.is_ok() }).await;
        for nonce in [&unspent, &spent] {
            assert_eq!(nonces.redeem(nonce).await, refused(NonceRefusal::Forged));
        }
    }
    assert_eq!(fleet[1].redeem(&fleet[0].mint().unwrap()).await, ACCEPTED);
}
