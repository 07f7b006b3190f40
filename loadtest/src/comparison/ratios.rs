//! One line for each server: its windows at the concurrency that suits it best, and what they are to the
//! reference's windows before and after each.

use crate::comparison::folder::{Measured, Outcome, Results, Window};

/// A mean, with the smallest and largest of what it was made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// What is told of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) concurrency: u32,
    pub(crate) rate: Option<Spread>,
    pub(crate) rate_ratio: Option<Spread>,
    /// CPU milliseconds a certificate: the server's own processes.
    pub(crate) cpu: Option<Spread>,
    pub(crate) cpu_ratio: Option<Spread>,
    /// The same with database and proxy.
    pub(crate) cpu_of_all: Option<Spread>,
    pub(crate) cpu_of_all_ratio: Option<Spread>,
    /// Milliseconds: p50 and p99, means over the windows.
    pub(crate) issuance: Option<(f64, f64)>,
    pub(crate) finalize: Option<(f64, f64)>,
    /// MiB at most: the server's own processes, and all.
    pub(crate) memory: Option<(f64, f64)>,
    pub(crate) issuances: u64,
    pub(crate) errors: u64,
    /// The kind of error that there is most of.
    pub(crate) commonest_error: Option<String>,
    pub(crate) retry_after: Option<u64>,
    /// What the generator said where it could not start.
    pub(crate) failures: Vec<String>,
}

/// The line of `server`; nothing if it has no window.
pub(crate) fn line(results: &Results, server: &str) -> Option<Line> {
    let own = windows(results, server);
    if own.is_empty() {
        return None;
    }
    let concurrency = best_concurrency(&own);
    let chosen: Vec<(&Window, &Measured)> = measured(&own, concurrency);
    let all_of_reference = windows(results, &results.run.reference);
    let reference = measured(&all_of_reference, best_concurrency(&all_of_reference));
    let mean_of = |value: &dyn Fn(&Measured) -> Option<f64>| {
        spread(chosen.iter().filter_map(|(_, measured)| value(measured)))
    };
    let ratio_of = |value: &dyn Fn(&Measured) -> Option<f64>| {
        spread(chosen.iter().filter_map(|(window, measured)| {
            Some(value(measured)? / beside(&reference, window.number, value)?)
        }))
    };
    let latency_of = |span: &str| {
        let p50 = mean_of(&|measured| Some(measured.latency_us.get(span)?.p50 as f64 / 1000.0))?;
        let p99 = mean_of(&|measured| Some(measured.latency_us.get(span)?.p99 as f64 / 1000.0))?;
        Some((p50.mean, p99.mean))
    };
    let own_cpu = |measured: &Measured| cpu(measured, |name| name.starts_with("server:"));
    let all_cpu = |measured: &Measured| cpu(measured, |_| true);
    let everything = || own.iter().filter_map(|window| measured_of(window));
    let memory = everything()
        .map(|measured| (memory(measured, |name| name.starts_with("server:")), memory(measured, |_| true)));
    Some(Line {
        concurrency,
        rate: mean_of(&|measured| Some(measured.issuances_per_second)),
        rate_ratio: ratio_of(&|measured| Some(measured.issuances_per_second)),
        cpu: mean_of(&own_cpu),
        cpu_ratio: ratio_of(&own_cpu),
        cpu_of_all: mean_of(&all_cpu),
        cpu_of_all_ratio: ratio_of(&all_cpu),
        issuance: latency_of("issuance"),
        finalize: latency_of("finalize to valid"),
        memory: memory.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))),
        issuances: everything().map(|measured| measured.issuances).sum(),
        errors: everything().map(errors).sum(),
        commonest_error: everything()
            .flat_map(|measured| &measured.errors)
            .max_by_key(|(_, errors)| errors.count)
            .map(|(kind, _)| kind.clone()),
        retry_after: everything().filter_map(|measured| measured.longest_retry_after).max(),
        failures: own.iter().filter_map(|window| failure(window)).collect(),
    })
}

/// Cores that neither the servers nor the generator used, on average over all windows: how quiet the machine
/// was.
pub(crate) fn cores_of_others(results: &Results) -> Option<f64> {
    let each = results.windows.iter().filter_map(measured_of).map(|measured| {
        let servers: f64 = measured.cpu.servers.iter().filter_map(|of| of.cpu_ms).sum();
        let others = measured.cpu.machine_cpu_ms - measured.cpu.generator_cpu_ms - servers;
        others.max(0.0) / 1000.0 / measured.cpu.seconds
    });
    spread(each).map(|spread| spread.mean)
}

/// All errors of a window.
pub(crate) fn errors(measured: &Measured) -> u64 {
    measured.errors.values().map(|errors| errors.count).sum()
}

fn windows<'a>(results: &'a Results, server: &str) -> Vec<&'a Window> {
    results.windows.iter().filter(|window| window.server == server).collect()
}

fn measured_of(window: &Window) -> Option<&Measured> {
    match &window.outcome {
        Outcome::Measured(measured) => Some(measured),
        Outcome::Failed { .. } => None,
    }
}

fn failure(window: &Window) -> Option<String> {
    match &window.outcome {
        Outcome::Measured(_) => None,
        Outcome::Failed { failure } => Some(failure.clone()),
    }
}

/// The concurrency with the highest mean rate.
fn best_concurrency(windows: &[&Window]) -> u32 {
    let rate = |concurrency| {
        let rates = measured(windows, concurrency).into_iter().map(|(_, found)| found.issuances_per_second);
        spread(rates).map_or(0.0, |spread| spread.mean)
    };
    let all = windows.iter().map(|window| window.concurrency);
    all.max_by(|a, b| rate(*a).total_cmp(&rate(*b)).then(b.cmp(a))).unwrap_or_default()
}

fn measured<'a>(windows: &[&'a Window], concurrency: u32) -> Vec<(&'a Window, &'a Measured)> {
    let chosen = windows.iter().filter(|window| window.concurrency == concurrency);
    chosen.filter_map(|window| Some((*window, measured_of(window)?))).collect()
}

/// The mean of the reference's value in the window before `number` and in the one after it, or the one there
/// is.
fn beside(
    reference: &[(&Window, &Measured)],
    number: u32,
    value: &dyn Fn(&Measured) -> Option<f64>,
) -> Option<f64> {
    if let Some((_, itself)) = reference.iter().find(|(window, _)| window.number == number) {
        return value(itself);
    }
    let before = reference.iter().rfind(|(window, _)| window.number < number);
    let after = reference.iter().find(|(window, _)| window.number > number);
    let values = [before, after].into_iter().flatten().filter_map(|(_, measured)| value(measured));
    spread(values).map(|spread| spread.mean)
}

/// CPU milliseconds for a certificate of the processes whose names are `counted`; nothing if one ended or no
/// certificate was issued.
fn cpu(measured: &Measured, counted: impl Fn(&str) -> bool) -> Option<f64> {
    let used = measured.cpu.servers.iter().filter(|of| counted(&of.name)).map(|of| of.cpu_ms);
    let used: Option<f64> = used.sum();
    (measured.issuances > 0).then_some(used? / measured.issuances as f64)
}

fn memory(measured: &Measured, counted: impl Fn(&str) -> bool) -> f64 {
    let each = measured.memory.iter().filter(|of| counted(&of.name));
    each.map(|of| of.peak_pss_kib as f64 / 1024.0).sum()
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let values: Vec<f64> = values.collect();
    let count = values.len();
    (count > 0).then(|| Spread {
        mean: values.iter().sum::<f64>() / count as f64,
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}
