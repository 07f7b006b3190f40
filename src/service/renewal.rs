//! Renewal information (RFC 9773).

use std::time::Duration;

use super::Services;
use super::refusal::{Refusal, ServiceError};
use crate::acme::certificate::{RenewalId, Serial};
use crate::acme::identifier::Identifier;
use crate::acme::time::Timestamp;
use crate::storage::IssuedCertificate;

/// When a certificate is best renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// The window begins.
    pub start: Timestamp,
    /// The window ends.
    pub end: Timestamp,
    /// Where the reason is explained, if there is a special one (ARI-02).
    pub explanation_url: Option<String>,
    /// How soon a client asks again (RFC 9773 §4.3).
    pub ask_again: Duration,
}

/// How soon a client asks again at the latest. A certificate of a short life is asked about more often, or its window
/// would be over before the second question.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// The suggested window of the certificate that `id` names.
pub async fn renewal_info(services: &Services, id: &str) -> Result<RenewalInfo, ServiceError> {
    let id = RenewalId::parse(id).ok_or_else(|| {
        let detail =
            "a renewal identifier is base64url(AKI keyIdentifier) \".\" base64url(serial) (RFC 9773 §4.1)";
        Refusal::Malformed(detail.to_owned())
    })?;
    let unknown = || Refusal::NotFound("certificate");
    let serial = Serial::from_bytes(&id.serial).ok_or_else(unknown)?;
    let issued = services.store.certificate(&serial).await?.ok_or_else(unknown)?;
    if crate::pki::hex(&id.authority_key_id) != issued.certificate.issuer_id {
        return Err(unknown().into());
    }
    let explanation = services.settings.website.clone().unwrap_or_else(|| services.urls.directory(None));
    Ok(window(&issued, services.now(), explanation))
}

/// Whether a certificate is due: its window has begun, and it has not ended. A revoked one is not: whoever asks for
/// limits not to count (ARI-04) must not make itself such certificates at will.
fn is_due(issued: &IssuedCertificate, now: Timestamp) -> bool {
    let begun = || window(issued, now, String::new()).start <= now;
    issued.certificate.revocation.is_none()
        && !issued.key_is_blocked
        && now < issued.certificate.not_after
        && begun()
}

/// Whether limits do not count an order for `identifiers` that replaces a certificate (ARI-04). It is the renewal of the
/// certificate and no more than that: due, and for its names or some of them. Each certificate grants it once, whatever
/// becomes of the order, and once more when the operator asks for its renewal; and only one that has lived for `age` does,
/// so that certificates that are due as soon as they are issued grant nothing.
pub(super) fn is_exempt(
    issued: &IssuedCertificate,
    identifiers: &[Identifier],
    now: Timestamp,
    age: Duration,
) -> bool {
    let granted = match issued.renewal_asked_at {
        Some(asked) => issued.exempted_at.is_none_or(|at| at < asked),
        None => {
            let old = issued.certificate.issued_at.is_some_and(|at| at.truncated().plus(age) <= now);
            old && issued.exempted_at.is_none()
        }
    };
    let names = &issued.certificate.identifiers;
    granted && is_due(issued, now) && identifiers.iter().all(|identifier| names.contains(identifier))
}

/// Two thirds into the lifetime, moved by up to a twelfth of it by the serial, so that certificates issued together do
/// not come back together (ARI-03). For a revoked certificate, one whose key is
/// compromised, and one that the operator wants renewed, at once (ARI-02).
fn window(issued: &IssuedCertificate, now: Timestamp, explanation: String) -> RenewalInfo {
    let certificate = &issued.certificate;
    let lifetime = certificate.not_after.since(certificate.not_before);
    let twelfth = lifetime / 12;
    let ask_again = twelfth.clamp(Duration::from_secs(1), ASK_AGAIN);
    if certificate.revocation.is_some() || issued.key_is_blocked || issued.renewal_asked_at.is_some() {
        let hour = Duration::from_secs(3600);
        let (start, end) = (now.minus(hour * 2), now.minus(hour));
        return RenewalInfo { start, end, explanation_url: Some(explanation), ask_again };
    }
    let octets = certificate.serial.as_bytes();
    let fraction = u32::from(octets[14]) * 256 + u32::from(octets[15]);
    let start = certificate.not_before.plus(twelfth * 7).plus(twelfth * fraction / 65_536);
    RenewalInfo { start, end: start.plus(twelfth), explanation_url: None, ask_again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::certificate::{Certificate, Revocation, RevocationReason};
    use crate::acme::id::{AccountId, OrderId};

    fn certificate(last: u8) -> IssuedCertificate {
        let mut octets = [1; 16];
        octets[14] = last;
        let certificate = Certificate {
            serial: Serial::from_random(octets),
            order_id: OrderId::new(),
            account_id: AccountId::new(),
            profile: "default".into(),
            issuer_id: String::new(),
            identifiers: Vec::new(),
            key_sha256: String::new(),
            public_key: Vec::new(),
            not_before: Timestamp::from_seconds(0),
            not_after: Timestamp::from_seconds(90 * 86_400),
            content: None,
            der: None,
            issued_at: None,
            revocation: None,
        };
        IssuedCertificate {
            certificate,
            replaced_by: None,
            renewal_asked_at: None,
            key_is_blocked: false,
            exempted_at: None,
        }
    }

    #[test]
    fn ari_03_windows_of_certificates_issued_together_differ_and_lie_within_the_lifetime() {
        let now = Timestamp::from_seconds(10);
        let starts: std::collections::BTreeSet<i64> = (0..=255)
            .map(|last| {
                let info = window(&certificate(last), now, String::new());
                assert!(info.start < info.end && info.end < Timestamp::from_seconds(90 * 86_400 * 3 / 4 + 1));
                assert!(info.start >= Timestamp::from_seconds(90 * 86_400 / 2));
                info.start.seconds()
            })
            .collect();
        assert_eq!(starts.len(), 256);
    }

    #[test]
    fn ari_01_clients_ask_again_within_a_twelfth_of_the_lifetime_and_within_six_hours() {
        let now = Timestamp::from_seconds(10);
        for (lifetime, ask_again) in
            [(90 * 86_400, 21_600), (72 * 3600, 21_600), (86_400, 7_200), (600, 50), (6, 1)]
        {
            let mut certificate = certificate(0);
            certificate.certificate.not_after = Timestamp::from_seconds(lifetime);
            let seconds = Duration::from_secs(ask_again);
            assert_eq!(window(&certificate, now, String::new()).ask_again, seconds, "{lifetime} s");
            certificate.renewal_asked_at = Some(now);
            assert_eq!(
                window(&certificate, now, String::new()).ask_again,
                seconds,
                "{lifetime} s, asked for"
            );
        }
    }

    #[test]
    fn ari_04_a_certificate_is_due_from_its_window_to_its_end() {
        let mut certificate = certificate(0);
        let start = window(&certificate, Timestamp::from_seconds(10), String::new()).start;
        let just_before = start.minus(Duration::from_micros(1));
        let last = certificate.certificate.not_after.minus(Duration::from_micros(1));
        for (at, due) in
            [(just_before, false), (start, true), (last, true), (certificate.certificate.not_after, false)]
        {
            assert_eq!(is_due(&certificate, at), due, "{at}");
        }
        certificate.certificate.revocation =
            Some(Revocation { at: start, reason: RevocationReason::Superseded });
        assert!(!is_due(&certificate, start));
    }

    #[test]
    fn ari_04_a_certificate_exempts_once_its_own_renewal_if_it_is_old_enough() {
        let [a, b, c] = ["a.test", "b.test", "c.test"].map(|name| Identifier::Dns(name.into()));
        let mut issued = certificate(0);
        issued.certificate.identifiers = vec![a.clone(), b.clone()];
        let hours = |hours: i64| Timestamp::from_seconds(70 * 86_400 + hours * 3600);
        issued.certificate.issued_at = Some(hours(0));
        let age = Duration::from_secs(6 * 3600);
        let exempt = |issued: &IssuedCertificate, names: &[&Identifier], at| {
            let names: Vec<Identifier> = names.iter().map(|name| (*name).clone()).collect();
            is_exempt(issued, &names, at, age)
        };
        assert!(exempt(&issued, &[&b, &a], hours(6)) && exempt(&issued, &[&a], hours(6)));
        assert!(!exempt(&issued, &[&a, &b, &c], hours(6)), "a name more");
        assert!(!exempt(&issued, &[&a], hours(6).minus(Duration::from_micros(1))), "too young");
        let spent = IssuedCertificate { exempted_at: Some(hours(6)), ..issued.clone() };
        assert!(!exempt(&spent, &[&a], hours(7)), "spent");
        let asked = IssuedCertificate { renewal_asked_at: Some(hours(8)), ..spent };
        assert!(exempt(&asked, &[&a], hours(8)), "the operator asks");
        let again = IssuedCertificate { exempted_at: Some(hours(9)), ..asked };
        assert!(!exempt(&again, &[&a], hours(9)), "spent again");
        let young = IssuedCertificate { renewal_asked_at: Some(hours(1)), ..issued };
        assert!(exempt(&young, &[&a], hours(1)), "at the operator's word, however young");
    }

    #[test]
    fn ari_02_a_revoked_certificate_is_due_at_once_and_says_why() {
        let now = Timestamp::from_seconds(86_400);
        let mut certificate = certificate(0);
        certificate.certificate.revocation =
            Some(Revocation { at: now, reason: RevocationReason::Superseded });
        let info = window(&certificate, now, "https://ca.test/why".into());
        assert!(info.end < now && info.explanation_url.is_some());
    }

    #[test]
    fn ari_02_a_certificate_whose_key_is_compromised_is_renewed_at_once_but_counted() {
        let now = Timestamp::from_seconds(86_400);
        let certificate = IssuedCertificate { key_is_blocked: true, ..certificate(0) };
        let info = window(&certificate, now, "https://ca.test/why".into());
        assert!(info.end < now && info.explanation_url.is_some() && !is_due(&certificate, now));
    }

    #[test]
    fn ari_02_a_certificate_that_the_operator_wants_renewed_is_due_at_once() {
        let now = Timestamp::from_seconds(86_400);
        let mut certificate = certificate(0);
        certificate.renewal_asked_at = Some(now);
        let info = window(&certificate, now, "https://ca.test/why".into());
        assert!(info.end < now && info.explanation_url.is_some() && is_due(&certificate, now));
    }
}
