//! What is printed at the end.

use std::path::Path;

use serde_json::{Value, json};

use crate::accounting::{Memory, Snapshot, Watched};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::recorder::Counts;
use crate::step::Step;

/// CPU time of one window, divided by what was done in it.
pub(crate) struct CpuBill {
    /// Milliseconds of each watched process; nothing for one that ended.
    pub(crate) servers: Vec<(String, Option<f64>)>,
    /// Milliseconds of the generator.
    pub(crate) generator: f64,
    /// Busy milliseconds of the whole machine.
    pub(crate) machine: f64,
    /// Length of the window, seconds.
    pub(crate) seconds: f64,
    /// Certificates, or requests.
    pub(crate) units: u64,
}

impl CpuBill {
    /// The difference of two snapshots.
    pub(crate) fn new(
        watched: &[Watched],
        from: &Snapshot,
        until: &Snapshot,
        seconds: f64,
        units: u64,
    ) -> Self {
        let servers = watched.iter().enumerate().map(|(index, watched)| {
            let used = match (from.servers.get(index), until.servers.get(index)) {
                (Some(Some(from)), Some(Some(until))) => Some(until - from),
                _ => None,
            };
            (watched.name.clone(), used)
        });
        Self {
            servers: servers.collect(),
            generator: until.generator - from.generator,
            machine: until.machine - from.machine,
            seconds,
            units,
        }
    }

    /// Milliseconds of all servers for one unit; nothing when none is watched, one has ended, or nothing was
    /// done.
    pub(crate) fn per_unit(&self) -> Option<f64> {
        if self.servers.is_empty() || self.units == 0 {
            return None;
        }
        let used: Option<f64> = self.servers.iter().map(|(_, used)| *used).sum();
        used.map(|used| used / self.units as f64)
    }

    /// Prints the bill; `scale` and `unit` turn milliseconds a unit into what is shown.
    pub(crate) fn print(&self, scale: f64, unit: &str) {
        let line = |name: &str, used: f64| {
            let each = if self.units == 0 { 0.0 } else { used * scale / self.units as f64 };
            let cores = used / 1000.0 / self.seconds;
            println!("  {name:<28} {each:>10.3} {unit}   {cores:>6.3} cores");
        };
        println!("CPU over {:.1} s", self.seconds);
        for (name, used) in &self.servers {
            match used {
                Some(used) => line(name, *used),
                None => println!("  {name:<28} ended during the run"),
            }
        }
        if let Some(each) = self.per_unit() {
            line("all server processes", each * self.units as f64);
        }
        line("(generator)", self.generator);
        line("(whole machine)", self.machine);
    }

    /// The bill as JSON, milliseconds.
    pub(crate) fn json(&self) -> Value {
        let servers: Vec<Value> =
            self.servers.iter().map(|(name, used)| json!({"name": name, "cpu_ms": used})).collect();
        json!({
            "servers": servers, "server_cpu_ms_each": self.per_unit(), "generator_cpu_ms": self.generator,
            "machine_cpu_ms": self.machine, "seconds": self.seconds, "units": self.units,
        })
    }
}

/// Prints the largest memory of each watched process.
pub(crate) fn print_memory(watched: &[Watched], peaks: &[Memory]) {
    for (watched, peak) in watched.iter().zip(peaks) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        println!(
            "  {:<28} {:>10.1} MiB at most ({:.1} with shared pages counted for each process)",
            watched.name,
            mib(peak.proportional),
            mib(peak.resident)
        );
    }
}

/// The largest memory of each watched process as JSON, KiB.
pub(crate) fn memory_json(watched: &[Watched], peaks: &[Memory]) -> Value {
    let each = watched.iter().zip(peaks).map(|(watched, peak)| {
        json!({"name": watched.name, "peak_pss_kib": peak.proportional, "peak_rss_kib": peak.resident})
    });
    each.collect()
}

/// Prints rates, latencies and errors of a run.
pub(crate) fn print_counts(counts: &Counts, seconds: f64) {
    let completed = counts.completed();
    let slowest = counts.per_second.iter().min().copied().unwrap_or_default();
    println!(
        "{:.1} issuances/s ({completed} in {seconds:.1} s; fewest in one second: {slowest})",
        completed as f64 / seconds
    );
    print_latencies(Step::ALL.map(|step| (step.name(), counts.step(step))));
    println!(
        "badNonce retries {}, connections opened again {}, shed by the generator {}",
        counts.bad_nonces, counts.reconnects, counts.shed
    );
    if counts.errors.is_empty() {
        println!("no errors");
    }
    for (label, error) in &counts.errors {
        println!("error {:>7} × {label}\n        first: {}", error.count, cut(&error.example));
    }
}

/// Prints one line for each histogram that is not empty.
pub(crate) fn print_latencies<'a>(lines: impl IntoIterator<Item = (&'a str, &'a Histogram)>) {
    println!(
        "{:<22}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}  ms",
        "", "count", "mean", "p50", "p90", "p99", "max"
    );
    for (name, histogram) in lines {
        if histogram.count() > 0 {
            let ms = |micros: u64| micros as f64 / 1000.0;
            println!(
                "{name:<22}{:>9}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
                histogram.count(),
                histogram.mean() / 1000.0,
                ms(histogram.quantile(0.5)),
                ms(histogram.quantile(0.9)),
                ms(histogram.quantile(0.99)),
                ms(histogram.max())
            );
        }
    }
}

/// Rates, latencies in microseconds, and errors as JSON.
pub(crate) fn counts_json(counts: &Counts, seconds: f64) -> Value {
    let steps: serde_json::Map<String, Value> = Step::ALL
        .into_iter()
        .filter(|step| counts.step(*step).count() > 0)
        .map(|step| (step.name().trim_start_matches("= ").to_owned(), latency_json(counts.step(step))))
        .collect();
    let errors: serde_json::Map<String, Value> = counts
        .errors
        .iter()
        .map(|(label, error)| (label.clone(), json!({"count": error.count, "first": cut(&error.example)})))
        .collect();
    json!({
        "issuances_per_second": counts.completed() as f64 / seconds, "issuances": counts.completed(),
        "per_second": counts.per_second, "latency_us": steps, "errors": errors, "bad_nonce_retries": counts.bad_nonces,
        "reconnects": counts.reconnects, "shed": counts.shed, "longest_retry_after": counts.retry_after,
    })
}

/// A histogram as JSON, microseconds.
pub(crate) fn latency_json(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.count(), "mean": histogram.mean(), "p50": histogram.quantile(0.5),
        "p90": histogram.quantile(0.9), "p99": histogram.quantile(0.99), "max": histogram.max(),
    })
}

/// Writes the results to a file.
pub(crate) fn write(path: &Path, results: &Value) -> Result<(), Failure> {
    std::fs::write(path, format!("{results:#}\n"))
        .map_err(|error| Failure::Setup(format!("{}: {error}", path.display())))
}

/// Checks one required threshold and says so when it is missed; `true` when kept or not required.
pub(crate) fn require(what: &str, measured: Option<f64>, bound: Option<f64>, at_least: bool) -> bool {
    let Some(bound) = bound else { return true };
    let kept = measured.is_some_and(|measured| if at_least { measured >= bound } else { measured <= bound });
    if !kept {
        let measured =
            measured.map_or_else(|| "not measured".to_owned(), |measured| format!("{measured:.3}"));
        let relation = if at_least { "at least" } else { "at most" };
        println!("MISSED: {what} is {measured}, required is {relation} {bound}");
    }
    kept
}

/// A text from the server, bounded.
fn cut(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(servers: Vec<(String, Option<f64>)>, units: u64) -> Option<f64> {
        CpuBill { servers, generator: 1.0, machine: 9.0, seconds: 1.0, units }.per_unit()
    }

    #[test]
    fn cpu_for_one_certificate_is_the_sum_over_all_servers() {
        assert_eq!(bill(vec![("a".into(), Some(300.0)), ("b".into(), Some(200.0))], 100), Some(5.0));
        assert_eq!(bill(vec![("a".into(), Some(300.0)), ("b".into(), None)], 100), None);
        assert_eq!(bill(vec![("a".into(), Some(300.0))], 0), None);
        assert_eq!(bill(vec![], 100), None);
    }

    #[test]
    fn a_threshold_without_a_measurement_is_missed() {
        assert!(require("rate", Some(200.0), Some(200.0), true));
        assert!(!require("rate", Some(199.9), Some(200.0), true));
        assert!(require("cpu", Some(5.0), Some(5.0), false));
        assert!(!require("cpu", Some(5.1), Some(5.0), false));
        assert!(!require("cpu", None, Some(5.0), false));
        assert!(require("cpu", None, None, false));
    }
}
