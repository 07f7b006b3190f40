//! Named points at which a crash test kills or stops the process (design §7). Compiled to nothing without the `faults`
//! feature.

/// Sends the process SIGKILL, or the signal that `CHANCERY_TEST_FAULT_SIGNAL` names, if `CHANCERY_TEST_FAULT` names
/// this point. A process that was stopped goes on from here when it is continued.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    use std::env::var;
    use std::process::{Command, id};
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
        let signal = var("CHANCERY_TEST_FAULT_SIGNAL").unwrap_or_else(|_| "KILL".to_owned());
        Some((var("CHANCERY_TEST_FAULT").ok()?, signal))
    });
    if let Some((_, signal)) = CHOSEN.as_ref().filter(|(point, _)| point == name) {
        let sent = Command::new("kill").args([format!("-{signal}"), id().to_string()]).status();
        tracing::warn!(point = name, signal, ?sent, "the process lives on after a fault point");
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
pub const fn point(_name: &str) {}
