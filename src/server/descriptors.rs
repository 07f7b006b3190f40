//! How many files and sockets the process may have open, and how many of them connections may take.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files as far as the system lets it, and tells how many connections fit within it: as many as
/// are wanted, or three quarters. The rest is for the database, Redis, validations and the operations listener.
pub(super) fn connections_that_fit(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    let Some(most) = getrlimit(Resource::Nofile).current else { return wanted };
    let fit = usize::try_from(most).unwrap_or(usize::MAX) / 4 * 3;
    if fit < wanted {
        tracing::warn!(
            open_files = most,
            connections = fit,
            "fewer connections than http.max_connections are accepted at once: raise the limit on open files \
             (LimitNOFILE=, ulimit -Hn)"
        );
    }
    wanted.min(fit)
}
