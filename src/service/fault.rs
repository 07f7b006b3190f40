//! Named points at which a crash test kills or stops the process (design §7). Compiled to nothing without the `faults`
//! feature.

/// Sends the process SIGKILL, or SIGSTOP if `CHANCERY_TEST_FAULT_SIGNAL` is `STOP`, if `CHANCERY_TEST_FAULT` names this
/// point. A process that was stopped goes on from here when it is continued.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    use signal_hook::consts::{SIGKILL, SIGSTOP};
    use std::env::var;
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<(String, i32)>> = LazyLock::new(|| {
        let stop = var("CHANCERY_TEST_FAULT_SIGNAL").is_ok_and(|signal| signal == "STOP");
        Some((var("CHANCERY_TEST_FAULT").ok()?, if stop { SIGSTOP } else { SIGKILL }))
    });
    if let Some((_, signal)) = CHOSEN.as_ref().filter(|(point, _)| point == name) {
        // Past the log's format and filter: who waits for the fault must see it, however the log is set.
        eprintln!("fault point {name}");
        // To this very thread: a signal to the process is taken by any thread, and this one would go on meanwhile.
        let sent = signal_hook::low_level::raise(*signal);
        tracing::warn!(point = name, signal, ?sent, "the process lives on after a fault point");
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
pub const fn point(_name: &str) {}
