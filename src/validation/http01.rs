//! http-01 (RFC 8555 §8.3, RFC 8738 §4; AUT-10): the key authorization is at a well-known place on the host's web server.

use crate::acme::problem::{ProblemType, printable};
use crate::network::Network;
use crate::network::connect::Host;
use crate::network::fetch::{FetchError, FetchFailure, Fetched};
use crate::network::url::{HttpUrl, RedirectPorts};
use crate::validation::{Attempt, Verdict};

/// How much of a wrong answer is shown, in characters.
const SHOWN: usize = 120;

/// Fetches the key authorization from `port` and compares.
pub async fn validate(attempt: &Attempt<'_>, network: &Network, port: u16) -> Verdict {
    let path = format!("/.well-known/acme-challenge/{}", attempt.token);
    let url = HttpUrl::http(Host::from(attempt.identifier), port, &path);
    match network.fetch(url, RedirectPorts { http: port, https: 443 }).await {
        Ok(fetched) => judge(&attempt.key_authorization(), &fetched),
        Err(error) => failed(&error),
    }
}

/// Whether what was fetched is the key authorization. White space at its end is forgiven (RFC 8555 §8.3).
pub fn judge(key_authorization: &str, fetched: &Fetched) -> Verdict {
    let Fetched { status, address, url, .. } = fetched;
    if *status != 200 {
        let detail = format!(
            "{url} (at {address}) answered with status {status} and \"{}\", where 200 and the key authorization \
             were expected",
            printable(&fetched.body, SHOWN)
        );
        return match status {
            500..=599 => Verdict::retry(ProblemType::Unauthorized, detail),
            _ => Verdict::invalid(ProblemType::Unauthorized, detail),
        };
    }
    if !fetched.cut && fetched.body.trim_ascii_end() == key_authorization.as_bytes() {
        return Verdict::Valid;
    }
    let detail = format!(
        "{url} (at {address}) answered with \"{}\"{}, where the key authorization \"{key_authorization}\" was expected",
        printable(&fetched.body, SHOWN),
        if fetched.cut { " and more" } else { "" },
    );
    Verdict::invalid(ProblemType::IncorrectResponse, detail)
}

fn failed(error: &FetchError) -> Verdict {
    let detail = error.to_string();
    match &error.failure {
        FetchFailure::Connect(reason) => Verdict::unreached(reason, detail),
        FetchFailure::Redirect { .. } | FetchFailure::TooManyRedirects => {
            Verdict::invalid(ProblemType::Connection, detail)
        }
        FetchFailure::Tls(_) => Verdict::retry(ProblemType::Tls, detail),
        FetchFailure::Http(_) | FetchFailure::TimedOut { .. } => {
            Verdict::retry(ProblemType::Connection, detail)
        }
    }
}

#[cfg(test)]
mod tests;
