//! How fast the leader sweeps, and how a sweep ends: the same for all of them.

use std::time::Duration;

/// Rows per statement. A client that comes while a page is at work waits for it, in part: small pages are what keeps the
/// latency of clients (docs/performance.md has the figures).
pub(super) const PAGE: u32 = 50;

/// How long one page may take: longer than the database's own limits on waiting and working.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long one sweep of one run may take; what remains is for the next run.
pub(super) const BUDGET: Duration = Duration::from_secs(60);

/// After each full page the sweep rests this many times as long as the page took: clients come first.
pub(super) const REST: u32 = 5;

/// Clocks of replicas differ by a little: what none of them may still take for open is swept.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Why a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left.
    Clean,
    /// Its time is over.
    Late,
    /// This replica leads no more, or stops.
    NotLeading,
}

/// Counts the rows of one page.
pub(super) fn count_rows(sweep: &'static str, rows: usize) -> u64 {
    let rows = u64::try_from(rows).unwrap_or(u64::MAX);
    metrics::counter!("chancery_gc_rows_total", "sweep" => sweep).increment(rows);
    rows
}
