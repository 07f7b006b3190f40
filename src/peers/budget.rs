//! How much memory peers may make this process hold: the bounds that hold unless the configuration sets others, reckoned
//! from the memory that there is (docs/capacity.md has the arithmetic).

use std::path::{Path, PathBuf};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What an open connection costs: TLS, buffers, and the largest head, which may lie unfinished in them.
pub const CONNECTION: u64 = 64 * KIB;

/// What an open request costs: itself, a body of up to [`SMALL_BODY`], and an answer of about as much.
pub const REQUEST: u64 = 24 * KIB;

/// A body as large as this is part of its request's cost; only octets beyond are counted by themselves.
pub const SMALL_BODY: usize = 8 * 1024;

/// The least and the most that peers get together.
const LEAST: u64 = 64 * MIB;
const MOST: u64 = 1024 * MIB;

/// The defaults that follow from `memory` octets: a quarter of them is for peers, half of that for connections, a quarter
/// for requests, and a quarter for large bodies and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client.
    pub connections_per_client: usize,
    /// Open requests in all.
    pub open_requests: usize,
    /// Open requests of one client.
    pub open_requests_per_client: usize,
    /// Octets in all.
    pub octets: usize,
    /// Octets of one client.
    pub octets_per_client: usize,
}

impl Defaults {
    /// The defaults for this much memory, in octets.
    pub fn of(memory: u64) -> Self {
        let peers = (memory / 4).clamp(LEAST, MOST);
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let connections = whole(peers / 2 / CONNECTION).min(10_000);
        let open_requests = whole(peers / 4 / REQUEST);
        let octets = whole(peers / 4);
        Self {
            connections,
            // A client that has all its shares still costs less than a tenth of the smallest Pod.
            connections_per_client: (connections / 4).min(512),
            open_requests,
            open_requests_per_client: (open_requests / 4).min(512),
            octets,
            octets_per_client: (octets / 8).min(whole(4 * MIB)),
        }
    }
}

/// How much memory this process may use, in octets: the least of what its cgroups allow and what the machine has. 512 MiB
/// where neither can be read.
pub fn memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_meminfo(&text));
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&own).into_iter().filter_map(|file| limit(&file));
    limits.chain(machine).min().unwrap_or(512 * MIB)
}

fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * KIB)
}

/// A limit that is one: "max", and the huge number that version 1 of cgroups has for it, are none.
fn limit(file: &Path) -> Option<u64> {
    let limit: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < 1 << 60).then_some(limit)
}

/// The files that may limit the memory of a process in these cgroups (`/proc/self/cgroup`), its own and those above.
fn limit_files(own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let below = Path::new(path.trim_start_matches('/'));
        files.extend(below.ancestors().map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_the_memory_that_they_follow_from() {
        for memory in [64 * MIB, 256 * MIB, 512 * MIB, 2048 * MIB, 24 * 1024 * MIB] {
            let of = Defaults::of(memory);
            let cost = |connections: usize, requests: usize, octets: usize| {
                connections as u64 * CONNECTION + requests as u64 * REQUEST + octets as u64
            };
            let all = cost(of.connections, of.open_requests, of.octets);
            assert!(all <= (memory / 4).clamp(LEAST, MOST), "{memory}: {of:?}");
            let one = cost(of.connections_per_client, of.open_requests_per_client, of.octets_per_client);
            assert!(one <= 64 * MIB, "{memory}: {of:?}: {one}");
            assert!(of.connections_per_client >= 100 && of.open_requests_per_client >= 100, "{of:?}");
        }
    }

    #[test]
    fn limits_are_read_of_both_versions_of_cgroups() {
        let of =
            |text| limit_files(text).into_iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            of("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(of("5:cpu:/x\n4:memory,hugetlb:/\n"), ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
        assert_eq!(of_meminfo("MemTotal:       24123456 kB\nMemFree: 1 kB\n"), Some(24_123_456 * KIB));
        assert!(memory() > 16 * MIB);
    }
}
