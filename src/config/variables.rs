//! Environment variables that begin like ours and are no setting: those of Kubernetes, and those that were meant to be one.

use super::settings::PROFILE_SETTINGS;

/// Kubernetes gives every pod variables that describe the services of its namespace; for a service that is called
/// `chancery` or `chancery-…` they begin like ours.
pub(super) fn is_service_link(variable: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let of_port = |ending: &str| {
        variable
            .rsplit_once("_PORT_")
            .is_some_and(|(_, rest)| rest.ends_with(ending) && rest.as_bytes()[0].is_ascii_digit())
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || (variable.ends_with("_PORT") && is_url)
        || ["_TCP", "_UDP", "_SCTP", "_PROTO", "_PORT", "_ADDR"].iter().any(|ending| of_port(ending))
}

/// What a variable may have meant that begins as those of profiles do: where the profile's name ends is not known.
pub(super) fn of_a_profile(variable: &str) -> Vec<String> {
    let begun = ["CHANCERY_PROFILES_", "CHANCERY_PROFILE_"];
    let Some(rest) = begun.iter().find_map(|begin| variable.strip_prefix(begin)) else { return Vec::new() };
    let ends = rest.match_indices('_').map(|(at, _)| &rest[..at]);
    let meant = |profile: &str| {
        let keys = PROFILE_SETTINGS.iter().map(|setting| setting.key.to_ascii_uppercase());
        keys.map(|key| format!("CHANCERY_PROFILES_{profile}_{key}")).collect::<Vec<_>>()
    };
    ends.flat_map(meant).collect()
}
