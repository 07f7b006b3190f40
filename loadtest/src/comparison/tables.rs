//! The tables in Markdown.

use std::fmt::Write as _;

use crate::comparison::folder::{Outcome, Pair, Results, Server};
use crate::comparison::ratios::{self, Line, Spread};

/// Every table with the name of its place in the page.
pub(crate) fn render(results: &Results) -> Vec<(&'static str, String)> {
    vec![
        ("run", run(results)),
        ("speed", speed(results)),
        ("cost", cost(results)),
        ("pairs", pairs(results)),
        ("settings", settings(results)),
    ]
}

/// The servers in their order, with what is known of each.
fn ordered(results: &Results) -> impl Iterator<Item = (&String, &Server)> {
    results.run.order.iter().filter_map(|name| results.servers.get(name).map(|server| (name, server)))
}

fn run(results: &Results) -> String {
    let run = &results.run;
    let others = ratios::cores_of_others(results)
        .map_or_else(String::new, |cores| format!(" Other programs used {cores:.2} cores meanwhile."));
    format!(
        "Run of {}: {}, {} rounds, windows of {} s after {} s of warm-up, {} accounts.{others}",
        run.date, run.machine, run.rounds, run.seconds, run.warmup, run.accounts
    )
}

fn speed(results: &Results) -> String {
    let mut table = header(&[
        "server",
        "issuances/s",
        "× Chancery",
        "flows at a time",
        "issuance p50 / p99, ms",
        "finalize p50 / p99, ms",
        "longest Retry-After, s",
        "errors",
    ]);
    for (name, server) in ordered(results) {
        let Some(line) = ratios::line(results, name) else {
            row(&mut table, &[server.title.clone(), not_measured(server)]);
            continue;
        };
        row(
            &mut table,
            &[
                server.title.clone(),
                number(line.rate),
                ratio(line.rate_ratio),
                line.concurrency.to_string(),
                pair_of(line.issuance),
                pair_of(line.finalize),
                line.retry_after.map_or_else(|| "–".to_owned(), |seconds| seconds.to_string()),
                errors(&line),
            ],
        );
    }
    table
}

fn cost(results: &Results) -> String {
    let mut table = header(&[
        "server",
        "CPU-ms a certificate",
        "× Chancery",
        "with database and proxy",
        "× Chancery",
        "memory, MiB",
        "with database and proxy, MiB",
    ]);
    for (name, server) in ordered(results) {
        let Some(line) = ratios::line(results, name) else { continue };
        let memory = |of: &dyn Fn((f64, f64)) -> f64| {
            line.memory.map_or_else(|| "–".to_owned(), |memory| format!("{:.0}", of(memory)))
        };
        row(
            &mut table,
            &[
                server.title.clone(),
                milliseconds(line.cpu),
                ratio(line.cpu_ratio),
                milliseconds(line.cpu_of_all),
                ratio(line.cpu_of_all_ratio),
                memory(&|memory| memory.0),
                memory(&|memory| memory.1),
            ],
        );
    }
    table
}

fn pairs(results: &Results) -> String {
    let limited = format!("orders let through where {} are allowed", results.run.order_limit);
    let mut table = header(&[
        "server",
        "two instances",
        "certificates",
        "failed",
        "nonces refused",
        "what failed",
        &limited,
    ]);
    for (name, server) in ordered(results) {
        let Some(pair) = results.pairs.get(name) else { continue };
        let mut cells = vec![server.title.clone(), server.two.clone()];
        cells.extend(outcome_of(pair));
        cells.push(match results.limits.get(name) {
            None => "it has no such limit".to_owned(),
            Some(Outcome::Failed { failure }) => cell(failure),
            Some(Outcome::Measured(measured)) => {
                measured.latency_us.get("new-order").map_or(0, |latency| latency.count).to_string()
            }
        });
        row(&mut table, &cells);
    }
    table
}

/// Certificates, failures, refused nonces, and what failed.
fn outcome_of(pair: &Pair) -> Vec<String> {
    let mut said: Vec<String> = pair.note.iter().map(|note| cell(note)).collect();
    let counts = match &pair.outcome {
        None => ["–".to_owned(), "–".to_owned(), "–".to_owned()],
        Some(Outcome::Failed { failure }) => {
            said.push(cell(failure));
            ["0".to_owned(), "all".to_owned(), "–".to_owned()]
        }
        Some(Outcome::Measured(measured)) => {
            let mut errors: Vec<_> = measured.errors.iter().collect();
            errors.sort_by_key(|(_, errors)| std::cmp::Reverse(errors.count));
            said.extend(errors.iter().map(|(label, errors)| format!("{} × {}", errors.count, cell(label))));
            let failed = ratios::errors(measured);
            [measured.issuances.to_string(), failed.to_string(), measured.bad_nonce_retries.to_string()]
        }
    };
    let said = if said.is_empty() { "nothing".to_owned() } else { said.join("; ") };
    counts.into_iter().chain([said]).collect()
}

fn settings(results: &Results) -> String {
    let mut table = header(&["server", "version", "processes", "settings"]);
    for (_, server) in ordered(results) {
        let settings = server.absent.as_ref().map_or_else(|| server.settings.clone(), |why| cell(why));
        row(&mut table, &[server.title.clone(), server.version.clone(), server.processes.clone(), settings]);
    }
    table
}

fn not_measured(server: &Server) -> String {
    format!("not measured: {}", server.absent.as_deref().map_or_else(|| "no window".to_owned(), cell))
}

fn errors(line: &Line) -> String {
    if let Some(failure) = line.failures.first() {
        return format!("windows that did not start: {}: {}", line.failures.len(), cell(failure));
    }
    let commonest = line.commonest_error.as_deref().map_or_else(String::new, cell);
    match line.errors {
        0 => "0".to_owned(),
        errors => format!("{errors} of {}, most of them {commonest}", errors + line.issuances),
    }
}

fn header(names: &[&str]) -> String {
    format!("| {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len()))
}

fn row(table: &mut String, cells: &[String]) {
    // Writing to a string cannot fail.
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

fn number(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.0}", spread.mean))
}

fn milliseconds(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.2}", spread.mean))
}

/// The mean, and the range where the windows differ.
fn ratio(spread: Option<Spread>) -> String {
    let Some(spread) = spread else { return "–".to_owned() };
    let (mean, least, most) = (digits(spread.mean), digits(spread.least), digits(spread.most));
    if least == most { mean } else { format!("{mean} ({least} … {most})") }
}

/// Two digits that say something.
fn digits(value: f64) -> String {
    match value {
        value if value >= 10.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

fn pair_of(latency: Option<(f64, f64)>) -> String {
    let one = |value: f64| if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    latency.map_or_else(|| "–".to_owned(), |(p50, p99)| format!("{} / {}", one(p50), one(p99)))
}

/// A text from elsewhere in one cell of a table.
fn cell(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.chars().take(300).collect::<String>().replace('|', "\\|")
}
