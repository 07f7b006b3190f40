//! Named points at which a crash test kills the process (design §7). Compiled to nothing without the `faults` feature.

/// Ends the process with SIGKILL if `CHANCERY_TEST_FAULT` names this point.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("CHANCERY_TEST_FAULT").ok());
    if CHOSEN.as_deref() == Some(name) {
        let killed =
            std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        tracing::error!(?killed, "the fault point was reached but the process lives");
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
pub const fn point(_name: &str) {}
