//! One issuance, as a client goes through it (RFC 8555 §7.1): order, authorizations, finalize, certificate.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use serde::Deserialize;

use crate::arguments::ChallengeKind;
use crate::client::{Account, Session};
use crate::csr::CertificateKey;
use crate::failure::Failure;
use crate::jws::{AccountKey, base64};
use crate::responders::Published;
use crate::step::Step;

/// What every flow of a run has in common.
pub(crate) struct Scenario {
    pub(crate) accounts: Vec<Account>,
    pub(crate) certificate_key: CertificateKey,
    pub(crate) challenge: ChallengeKind,
    pub(crate) domain: String,
    pub(crate) names_per_order: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) profile: Option<String>,
    pub(crate) published: Arc<Published>,
    /// Text that no other run puts into its names.
    pub(crate) run: String,
    pub(crate) timeout: Duration,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default)]
    authorizations: Vec<String>,
    #[serde(default)]
    finalize: String,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Authorization<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    identifier: Identifier<'a>,
    #[serde(borrow)]
    challenges: Vec<Challenge<'a>>,
}

#[derive(Deserialize)]
struct Identifier<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Challenge<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
}

/// Registers a new account (RFC 8555 §7.3) with the terms agreed to.
pub(crate) async fn register(session: &mut Session, key: AccountKey) -> Result<Account, Failure> {
    let url = session.directory().new_account.clone();
    let identity = format!(r#""jwk":{}"#, key.jwk());
    let answer =
        session.post(Step::NewAccount, &key, &identity, &url, br#"{"termsOfServiceAgreed":true}"#).await?;
    let kid =
        answer.location.ok_or_else(|| unexpected(Step::NewAccount, "no Location came with the account"))?;
    Ok(Account { key, identity: format!(r#""kid":"{kid}""#) })
}

impl Scenario {
    /// Goes through the issuance number `sequence` of this run, up to a checked certificate.
    pub(crate) async fn issue(&self, session: &mut Session, sequence: u64) -> Result<(), Failure> {
        let account = &self.accounts[(sequence % self.accounts.len() as u64) as usize];
        let names: Vec<String> = (0..self.names_per_order)
            .map(|index| format!("{}-{sequence}-{index}.{}", self.run, self.domain))
            .collect();
        let url = session.directory().new_order.clone();
        let payload = self.order_payload(&names);
        let answer = post(session, Step::NewOrder, account, &url, payload.as_bytes()).await?;
        let order: Order<'_> = parse(Step::NewOrder, &answer.body)?;
        let order_url =
            answer.location.ok_or_else(|| unexpected(Step::NewOrder, "no Location came with the order"))?;
        match order.status.as_ref() {
            "ready" => {}
            "pending" if self.challenge == ChallengeKind::None => {
                return Err(unexpected(
                    Step::NewOrder,
                    "the order is pending, but no challenge is to be answered",
                ));
            }
            "pending" => self.authorize(session, account, &order.authorizations).await?,
            status => return Err(went_invalid(Step::NewOrder, status, order.error)),
        }
        let certificate_url = self.finalize(session, account, &order_url, &order.finalize, &names).await?;
        let chain = post(session, Step::Certificate, account, &certificate_url, b"").await?;
        self.check(&chain.body, &names)
    }

    fn order_payload(&self, names: &[String]) -> String {
        let mut payload = String::from(r#"{"identifiers":["#);
        for (index, name) in names.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            payload.push_str(&format!(r#"{comma}{{"type":"dns","value":"{name}"}}"#));
        }
        payload.push(']');
        if let Some(profile) = &self.profile {
            payload.push_str(&format!(r#","profile":"{profile}""#));
        }
        payload.push('}');
        payload
    }

    /// Answers a challenge of every authorization, then waits until each is valid.
    async fn authorize(
        &self,
        session: &mut Session,
        account: &Account,
        urls: &[String],
    ) -> Result<(), Failure> {
        let mut waiting = Vec::with_capacity(urls.len());
        for url in urls {
            let answer = post(session, Step::Authorization, account, url, b"").await?;
            let authorization: Authorization<'_> = parse(Step::Authorization, &answer.body)?;
            match authorization.status.as_ref() {
                "valid" => continue,
                "pending" => {}
                status => return Err(self.lost(Step::Authorization, status, authorization.challenges)),
            }
            let kind = self.challenge.as_str();
            let challenge = authorization.challenges.iter().find(|challenge| challenge.kind == kind);
            let challenge = challenge.ok_or_else(|| {
                unexpected(Step::Authorization, "the challenge that was asked for is not offered")
            })?;
            let publication = self.published.publish(
                self.challenge,
                &authorization.identifier.value,
                &challenge.token,
                account.key.thumbprint(),
            );
            let since = Instant::now();
            post(session, Step::Challenge, account, &challenge.url, b"{}").await?;
            waiting.push((url, since, Instant::now() + self.poll_interval, publication));
        }
        for (url, since, mut next, _publication) in waiting {
            loop {
                tokio::time::sleep_until(next.into()).await;
                let answer = post(session, Step::AuthorizationPoll, account, url, b"").await?;
                let authorization: Authorization<'_> = parse(Step::AuthorizationPoll, &answer.body)?;
                match authorization.status.as_ref() {
                    "valid" => break,
                    "pending" => {}
                    status => {
                        return Err(self.lost(Step::AuthorizationPoll, status, authorization.challenges));
                    }
                }
                if since.elapsed() > self.timeout {
                    return Err(Failure::Late(Step::Validation));
                }
                next = Instant::now() + self.poll_interval;
            }
            session.time(Step::Validation, since);
        }
        Ok(())
    }

    /// Sends the signing request and waits for the order to become valid; gives the certificate's URL.
    async fn finalize(
        &self,
        session: &mut Session,
        account: &Account,
        order_url: &str,
        finalize_url: &str,
        names: &[String],
    ) -> Result<String, Failure> {
        let payload = format!(r#"{{"csr":"{}"}}"#, base64(&self.certificate_key.request(names)?));
        let since = Instant::now();
        let mut step = Step::Finalize;
        let mut answer = post(session, step, account, finalize_url, payload.as_bytes()).await?;
        loop {
            let order: Order<'_> = parse(step, &answer.body)?;
            match order.status.as_ref() {
                "valid" => {
                    session.time(Step::Issue, since);
                    return order
                        .certificate
                        .ok_or_else(|| unexpected(step, "the order is valid without a certificate"));
                }
                "processing" => {}
                status => return Err(went_invalid(step, status, order.error)),
            }
            if since.elapsed() > self.timeout {
                return Err(Failure::Late(Step::Issue));
            }
            tokio::time::sleep(self.poll_interval).await;
            step = Step::OrderPoll;
            answer = post(session, step, account, order_url, b"").await?;
        }
    }

    /// Holds that the chain is PEM and that its first certificate has the requested key and names.
    fn check(&self, chain: &[u8], names: &[String]) -> Result<(), Failure> {
        let leaf = first_certificate(chain).ok_or_else(|| {
            unexpected(Step::Certificate, "the chain does not start with a PEM certificate")
        })?;
        if !contains(&leaf, self.certificate_key.point()) {
            return Err(unexpected(Step::Certificate, "the certificate is for another key"));
        }
        if !names.iter().all(|name| contains(&leaf, name.as_bytes())) {
            return Err(unexpected(Step::Certificate, "the certificate lacks a name"));
        }
        Ok(())
    }

    fn lost(&self, step: Step, status: &str, challenges: Vec<Challenge<'_>>) -> Failure {
        went_invalid(step, status, challenges.into_iter().find_map(|challenge| challenge.error))
    }
}

async fn post(
    session: &mut Session,
    step: Step,
    account: &Account,
    url: &str,
    payload: &[u8],
) -> Result<crate::client::Answer, Failure> {
    session.post(step, &account.key, &account.identity, url, payload).await
}

fn parse<'a, T: Deserialize<'a>>(step: Step, body: &'a Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| unexpected(step, &format!("the body is not understood: {error}")))
}

fn unexpected(step: Step, what: &str) -> Failure {
    Failure::Unexpected { step, what: what.to_owned() }
}

fn went_invalid(step: Step, status: &str, problem: Option<Problem>) -> Failure {
    let problem = problem.unwrap_or_default();
    let kind = problem.kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&problem.kind).to_owned();
    Failure::WentInvalid { step, status: status.to_owned(), kind, detail: problem.detail }
}

/// The DER of the first certificate of a PEM chain (RFC 8555 §9.1).
fn first_certificate(chain: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(chain).ok()?;
    let body = text.strip_prefix("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = body.split_once("-----END CERTIFICATE-----")?;
    let compact: String = body.split_ascii_whitespace().collect();
    Base64::decode_vec(&compact).ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(names_per_order: usize, profile: Option<&str>) -> Scenario {
        Scenario {
            accounts: Vec::new(),
            certificate_key: CertificateKey::generate().unwrap(),
            challenge: ChallengeKind::Http01,
            domain: "load.test".into(),
            names_per_order,
            poll_interval: Duration::from_millis(1),
            profile: profile.map(str::to_owned),
            published: Published::new(),
            run: "run".into(),
            timeout: Duration::from_secs(1),
        }
    }

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", Base64::encode_string(der))
    }

    #[test]
    fn the_order_names_every_identifier_and_the_profile() {
        let made = scenario(2, Some("short")).order_payload(&["a.test".into(), "b.test".into()]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let dns = |name: &str| serde_json::json!({"type": "dns", "value": name});
        let wanted = serde_json::json!({"identifiers": [dns("a.test"), dns("b.test")], "profile": "short"});
        assert_eq!(made, wanted);
    }

    #[test]
    fn a_certificate_with_another_key_or_without_a_name_is_not_accepted() {
        let scenario = scenario(1, None);
        let names = ["a.load.test".to_owned()];
        let good = [b"..", scenario.certificate_key.point(), b"..a.load.test.."].concat();
        scenario.check(pem(&good).as_bytes(), &names).unwrap();
        let nameless = [scenario.certificate_key.point(), b"b.load.test"].concat();
        let other_key = CertificateKey::generate().unwrap();
        let foreign = [other_key.point(), b"a.load.test"].concat();
        for (chain, why) in [
            (pem(&nameless), "lacks a name"),
            (pem(&foreign), "another key"),
            ("junk".to_owned(), "PEM"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".to_owned(), "PEM"),
        ] {
            let failure = scenario.check(chain.as_bytes(), &names).unwrap_err().to_string();
            assert!(failure.contains(why), "{failure}");
        }
    }

    #[test]
    fn objects_are_read_with_members_that_are_not_known() {
        let order: Order<'_> = serde_json::from_slice(
            br#"{"status":"valid","x":[{"status":"no"}],"authorizations":["u"],
                "finalize":"f","certificate":"c"}"#,
        )
        .unwrap();
        assert_eq!((order.status.as_ref(), order.certificate.as_deref()), ("valid", Some("c")));
        let authorization: Authorization<'_> = serde_json::from_slice(
            br#"{"identifier":{"type":"dns","value":"a.test"},"status":"pending","expires":"x",
                "challenges":[{"type":"new-01","url":"v"},
                              {"type":"http-01","url":"u","token":"t","status":"pending"}]}"#,
        )
        .unwrap();
        assert_eq!(authorization.challenges[1].token, "t");
        assert_eq!(authorization.identifier.value, "a.test");
    }
}
