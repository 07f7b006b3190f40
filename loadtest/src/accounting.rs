//! CPU time as the kernel accounts for it, from `/proc` (proc(5)).
//!
//! A server's time is that of its process and all descendants, plus what parents have inherited from
//! descendants that ended and were waited for (`cutime`, `cstime`): Postgres's backends come and go, and none
//! of their time is lost.

use std::collections::HashMap;
use std::fs;

use crate::failure::Failure;

/// Milliseconds of one tick: `/proc` counts in USER_HZ, which is 100 on every Linux architecture in use.
const TICK_MS: f64 = 10.0;

/// A server process to account for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// CPU milliseconds used so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Of each watched process with its descendants; nothing for one that is gone.
    pub(crate) servers: Vec<Option<f64>>,
    /// Of the generator.
    pub(crate) generator: f64,
    /// Of everything on the machine.
    pub(crate) machine: f64,
}

/// Memory of a watched process and its descendants, KiB; the largest of several looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Pages in memory, those that several processes share counted for each.
    pub(crate) resident: u64,
    /// The same with shared pages divided among those that share them.
    pub(crate) proportional: u64,
}

impl Memory {
    /// The larger of each figure.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            proportional: self.proportional.max(other.proportional),
        }
    }
}

/// The members of `/proc/PID/stat` that matter, times in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    name: String,
    parent: u32,
    own: u64,
    of_ended_children: u64,
}

/// Takes `PID` or `NAME=PID` apart and holds that the process exists.
pub(crate) fn watch(arguments: &[String]) -> Result<Vec<Watched>, Failure> {
    let mut watched = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (name, pid) = argument.split_once('=').unwrap_or(("", argument));
        let pid = pid.parse().map_err(|_| Failure::Setup(format!("`{argument}` names no process id")))?;
        let process = process(pid).ok_or_else(|| Failure::Setup(format!("there is no process {pid}")))?;
        let name = if name.is_empty() { format!("{} {pid}", process.name) } else { name.to_owned() };
        watched.push(Watched { name, pid });
    }
    Ok(watched)
}

/// Reads the accounts of this moment.
pub(crate) fn snapshot(watched: &[Watched]) -> Snapshot {
    let processes = processes();
    Snapshot {
        servers: watched.iter().map(|watched| tree_ticks(&processes, watched.pid).map(in_ms)).collect(),
        generator: process(std::process::id()).map_or(0.0, |process| in_ms(process.own)),
        machine: fs::read_to_string("/proc/stat").ok().and_then(|text| busy_ticks(&text)).map_or(0.0, in_ms),
    }
}

fn in_ms(ticks: u64) -> f64 {
    ticks as f64 * TICK_MS
}

fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, process(pid)?)))
        .collect()
}

fn process(pid: u32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may contain any character, so the rest begins after the last one.
fn parse(stat: &str) -> Option<Process> {
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split(' ').collect();
    // Field numbers of proc(5), of which the third comes first here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        name,
        parent: u32::try_from(number(4)?).ok()?,
        own: number(14)? + number(15)?,
        of_ended_children: number(16)? + number(17)?,
    })
}

/// Memory of each watched process with its descendants at this moment.
pub(crate) fn memory(watched: &[Watched]) -> Vec<Memory> {
    let processes = processes();
    let of_tree = |watched: &Watched| {
        let members = processes.keys().filter(|pid| within(&processes, **pid, watched.pid));
        members.filter_map(|pid| rollup(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)).fold(
            Memory::default(),
            |sum, of_one| Memory {
                resident: sum.resident + of_one.resident,
                proportional: sum.proportional + of_one.proportional,
            },
        )
    };
    watched.iter().map(of_tree).collect()
}

/// The lines `Rss` and `Pss` of `/proc/PID/smaps_rollup`.
fn rollup(text: &str) -> Option<Memory> {
    let line = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { resident: line("Rss:")?, proportional: line("Pss:")? })
}

/// Whether `pid` is the process `root` or descends from it.
fn within(processes: &HashMap<u32, Process>, mut pid: u32, root: u32) -> bool {
    // Parents have no cycle, but the snapshot is not taken in one instant.
    for _ in 0..64 {
        if pid == root {
            return true;
        }
        match processes.get(&pid) {
            Some(process) => pid = process.parent,
            None => return false,
        }
    }
    false
}

fn tree_ticks(processes: &HashMap<u32, Process>, root: u32) -> Option<u64> {
    processes.get(&root)?;
    let members = processes.iter().filter(|(pid, _)| within(processes, **pid, root));
    Some(members.map(|(_, process)| process.own + process.of_ended_children).sum())
}

/// user + nice + system + irq + softirq of the line `cpu`.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) S 5 77 77 0 -1 4194304 1 2 3 4 11 22 33 44 20 0 1 0 100 0 0";
        let wanted = Process { name: "a) b (c".into(), parent: 5, own: 33, of_ended_children: 77 };
        assert_eq!(parse(stat), Some(wanted));
        assert_eq!(parse("77 (short) S 5"), None);
    }

    #[test]
    fn a_tree_is_the_process_its_descendants_and_the_children_that_ended() {
        let process =
            |parent, own, of_ended_children| Process { name: String::new(), parent, own, of_ended_children };
        let processes = HashMap::from([
            (1, process(0, 1000, 5000)),
            (10, process(1, 1, 20)),
            (11, process(10, 300, 0)),
            (12, process(11, 4000, 50)),
            (13, process(1, 9999, 0)),
        ]);
        assert_eq!(tree_ticks(&processes, 10), Some(4371));
        assert_eq!(tree_ticks(&processes, 99), None);
    }

    #[test]
    fn the_time_of_a_child_that_ended_during_the_window_is_counted_once() {
        // The shell waits for its child, burns nothing itself, and stays until its input closes.
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo; cat; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let watched = watch(&[format!("shell={}", shell.id())]).unwrap();
        let before = snapshot(&watched).servers[0].unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let used = snapshot(&watched).servers[0].unwrap() - before;
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(used >= TICK_MS, "{used} ms");
    }

    #[test]
    fn memory_is_that_of_the_tree_and_shared_pages_count_once_in_proportion() {
        let text = "55d0-7ffe ---p 0 00:00 0  [rollup]\nRss:  1234 kB\nPss:   567 kB\nPss_Dirty:  1 kB\n";
        assert_eq!(rollup(text), Some(Memory { resident: 1234, proportional: 567 }));
        assert_eq!(rollup("Rss: 1 kB"), None);
        let own = Watched { name: String::new(), pid: std::process::id() };
        let found = memory(&[own])[0];
        assert!(found.proportional > 0 && found.resident >= found.proportional, "{found:?}");
    }

    #[test]
    fn the_machine_is_busy_without_its_idle_and_waiting_time() {
        assert_eq!(busy_ticks("cpu  1 20 300 4000 50000 600000 7000000 0 0 0\ncpu0 1"), Some(7_600_321));
    }
}
