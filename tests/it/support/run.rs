//! What all tests of one run have in common: a runtime, a temporary folder, ports, names.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::support::chancery::{Deployment, Kind};

/// Longest wait for anything that is meant to happen soon: generous, since many tests share few cores.
pub const SOON: Duration = Duration::from_secs(30);

/// The runtime on which the in-test servers live and all clients' connections are driven.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built")
    })
}

/// Runs one wire test on the deployment that `start` gives for `kind`.
pub fn wire<T, F>(start: fn(Kind) -> Arc<Deployment>, kind: Kind, test: T)
where
    T: FnOnce(Arc<Deployment>) -> F,
    F: Future<Output = ()>,
{
    let deployment = start(kind);
    runtime().block_on(test(deployment));
}

/// A new empty folder, which is removed when the test run ends, however it ends.
pub fn folder(name: &str) -> PathBuf {
    static ROOT: OnceLock<(PathBuf, Child)> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Servers still end while the folder goes, so the removal is repeated until it succeeds.
    const REMOVE: &str = r#"trap : TERM INT HUP; cat >/dev/null; n=0; until rm -rf "$1" 2>/dev/null || [ $n -gt 99 ]; do n=$((n+1)); sleep 0.1; done"#;
    let (root, _) = ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("chancery-it-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a temporary folder");
        let remover = Command::new("sh")
            .args(["-c", REMOVE, "remover"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        (root, remover)
    });
    let folder = root.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// A TCP port of 127.0.0.1 that nothing listens on, and that is given out once a run. It lies below the range from which
/// the system gives connections theirs: there, a connection could take it before its server does, or between two starts.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Runs at the same time begin at different places.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(7919)));
    loop {
        let port =
            10_000 + u16::try_from(next.fetch_add(1, Ordering::Relaxed) % 22_000).expect("below 22000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A number that no other caller of this run gets.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A DNS name that nothing else in this run has.
pub fn unique_name() -> String {
    format!("n{}.chancery.test", unique())
}

/// An address in 127.0.0.0/8 that nothing else in this run has.
pub fn unique_address() -> Ipv4Addr {
    let [_, b, c, d] = (unique() + 256).to_be_bytes();
    Ipv4Addr::new(127, b.wrapping_add(1), c, d)
}

/// A failure and the end of a server's log, for the message of an assertion: the reason comes first and last, so that it
/// is seen at whichever end a reader looks.
pub fn with_log(reason: impl std::fmt::Display, log: &str) -> String {
    const SHOWN: usize = 80;
    let lines: Vec<_> = log.lines().collect();
    let end = &lines[lines.len().saturating_sub(SHOWN)..];
    format!(
        "{reason}; the last {} of {} lines of the log:\n{}\n{reason}",
        end.len(),
        lines.len(),
        end.join("\n")
    )
}

/// Waits, on this thread, until `condition` holds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "still waiting after {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Numbers that a seed repeats: SplitMix64.
pub struct SplitMix(u64);

impl SplitMix {
    /// Those of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next one below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
