//! A client as they are in the world: it goes through whole issuances by way of the balancer, tries again when it is told
//! to or its connection breaks, and writes down what it was promised.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::books::{Books, Certificate};
use crate::support::certificate::{Chain, csr};
use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::client::Client;
use crate::support::flows::{challenge, text};
use crate::support::haproxy::{Backend, Haproxy};
use crate::support::keys::{Key, base64url};
use crate::support::responder::{self, Reply};
use crate::support::response::Response;
use crate::support::run::{folder, unique_name};
use crate::support::transport::{Connections, Endpoint, Version};

/// A fleet behind its balancer.
pub struct Site {
    pub server: Arc<Deployment>,
    pub endpoint: Endpoint,
    _balancer: Haproxy,
}

impl Site {
    pub fn start(settings: &Settings) -> Arc<Self> {
        Self::start_behind(settings, Haproxy::start)
    }

    pub fn start_behind(settings: &Settings, balancer: fn(&Path, &[Backend]) -> Haproxy) -> Arc<Self> {
        let server = Deployment::with(Kind::Fleet, settings);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let file = folder("certificate").join("both.pem");
        std::fs::write(&file, format!("{certificate}{}", key.serialize_pem())).expect("written");
        let replicas = (0..server.size()).map(|index| server.replica(index));
        let backends: Vec<_> = replicas.map(|r| Backend { listen: r.listen, ops: r.ops }).collect();
        let balancer = balancer(&file, &backends);
        let endpoint = Endpoint::tls(balancer.address(), "localhost", &certificate);
        Arc::new(Self { server, endpoint, _balancer: balancer })
    }
}

/// How much a walker takes before it gives up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It tries again for as long as `DEADLINE`.
    Client,
    /// The first hitch ends the flow: service is normal, or it is not.
    None,
}

/// How long one request is tried again.
const DEADLINE: Duration = Duration::from_secs(45);

/// How long one answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

pub struct Walker {
    pub client: Client,
    site: Arc<Site>,
    books: Arc<Books>,
    patience: Patience,
    connections: Connections,
    nonces: Mutex<Vec<String>>,
}

/// Why a flow ended before its end.
pub type Failure = String;

impl Walker {
    pub fn new(site: &Arc<Site>, books: &Arc<Books>, patience: Patience) -> Self {
        Self {
            client: site.server.client(),
            site: Arc::clone(site),
            books: Arc::clone(books),
            patience,
            connections: Connections::default(),
            nonces: Mutex::default(),
        }
    }

    /// The URL of a resource of the directory.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.site.server.base_url)
    }

    /// One request, once.
    pub async fn exchange(&self, method: &str, url: &str, body: String) -> Result<Response, Failure> {
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/jose+json")
            .header("user-agent", "chancery-it")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let work = self.connections.exchange(&self.site.endpoint, Version::Http1, request);
        let answer = tokio::time::timeout(ANSWER_WITHIN, work).await.map_err(|_| "no answer in time")??;
        let (parts, body) = answer.into_parts();
        let (request, status) = (format!("{method} {url}"), parts.status.as_u16());
        Ok(Response { request, status, headers: parts.headers, body })
    }

    /// What is to be done about an answer: take it, or try again after this time.
    fn judge(&self, answer: &Response) -> Option<Duration> {
        let wait = answer.header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let kind = if answer.status >= 400 { answer.text() } else { String::new() };
        match (answer.status, wait) {
            (400, _) if kind.contains(":badNonce") => {
                self.books.seen("badNonce");
                Some(Duration::ZERO)
            }
            (429 | 503, Some(wait)) => {
                self.books.seen("503 with Retry-After");
                Some(wait.min(Duration::from_secs(2)))
            }
            (502..=504, _) => {
                self.books.seen(if answer.status == 503 { "503 of the balancer" } else { "502 or 504" });
                Some(Duration::from_millis(250))
            }
            (500, _) => {
                self.books.wrong("answers", format!("{answer}"));
                None
            }
            _ => None,
        }
    }

    async fn try_again(&self, since: Instant, wait: Duration, why: String) -> Result<(), Failure> {
        if self.patience == Patience::None || since.elapsed() > DEADLINE {
            return Err(why);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn nonce(&self, since: Instant) -> Result<String, Failure> {
        loop {
            let kept = self.nonces.lock().expect("not poisoned").pop();
            if let Some(nonce) = kept {
                return Ok(nonce);
            }
            let (wait, why) = match self.exchange("HEAD", &self.url("new-nonce"), String::new()).await {
                Ok(answer) => match (answer.nonce(), self.judge(&answer)) {
                    (Some(nonce), None) => return Ok(nonce),
                    (_, wait) => (wait.unwrap_or(Duration::from_millis(250)), answer.to_string()),
                },
                Err(error) => {
                    self.books.seen("cut");
                    (Duration::from_millis(100), error)
                }
            };
            self.try_again(since, wait, why).await?;
        }
    }

    /// A signed request, once, without regard to what is answered.
    pub async fn once(&self, url: &str, payload: &Value) -> Result<Response, Failure> {
        let answer = self.exchange("HEAD", &self.url("new-nonce"), String::new()).await?;
        let nonce = answer.nonce().ok_or("no nonce")?;
        let body = self.client.post(url).nonce(nonce).json(payload.clone()).sealed().to_string();
        self.exchange("POST", url, body).await
    }

    /// A signed request, again and again until it is answered for good.
    pub async fn ask(&self, url: &str, payload: Option<Value>) -> Result<Response, Failure> {
        let since = Instant::now();
        loop {
            let nonce = self.nonce(since).await?;
            let post = self.client.post(url).nonce(nonce);
            let post = if url.ends_with("/new-account") { post.by_jwk() } else { post };
            let post = payload.iter().fold(post, |post, payload| post.json(payload.clone()));
            let body = post.sealed().to_string();
            let (wait, why) = match self.exchange("POST", url, body.clone()).await {
                Ok(answer) => {
                    self.nonces.lock().expect("not poisoned").extend(answer.nonce());
                    match self.judge(&answer) {
                        Some(wait) => (wait, answer.to_string()),
                        None => {
                            if answer.status < 300 {
                                self.books.spent(url, body);
                            }
                            return Ok(answer);
                        }
                    }
                }
                Err(error) => {
                    self.books.seen("cut");
                    self.books.unanswered(url, body);
                    (Duration::from_millis(100), format!("{url}: {error}"))
                }
            };
            self.try_again(since, wait, why).await?;
        }
    }

    /// As `ask`, and the answer must have this status.
    async fn expect(&self, status: u16, url: &str, payload: Option<Value>) -> Result<Response, Failure> {
        let answer = self.ask(url, payload).await?;
        if answer.status == status { Ok(answer) } else { Err(format!("{status} expected: {answer}")) }
    }

    /// Makes an account, or finds that an earlier attempt made it.
    pub async fn register(&self) -> Result<(), Failure> {
        let payload = json!({"termsOfServiceAgreed": true});
        let answer = self.ask(&self.url("new-account"), Some(payload)).await?;
        if !matches!(answer.status, 200 | 201) {
            return Err(answer.to_string());
        }
        self.client.use_account(&answer.location());
        Ok(())
    }

    /// Places an order for a name of its own: its URL.
    pub async fn order(&self, trusted: bool) -> Result<String, Failure> {
        let mut payload = json!({"identifiers": [{"type": "dns", "value": unique_name()}]});
        if trusted {
            payload["profile"] = json!("trusted");
        }
        let answer = self.expect(201, &self.url("new-order"), Some(payload)).await?;
        self.books.order(self.client.account(), &answer.location(), &answer.json());
        Ok(answer.location())
    }

    /// An order whose target misbehaves; it is to fail.
    pub async fn doomed(&self, reply: Reply) -> Result<String, Failure> {
        let url = self.order(false).await?;
        let order = self.expect(200, &url, None).await?.json();
        let authorization = self.expect(200, &text_at(&order, "authorizations"), None).await?.json();
        let challenge = challenge(&authorization, "http-01").ok_or("no http-01")?;
        responder::http().set(&text(&challenge, "token"), reply);
        self.expect(200, &text(&challenge, "url"), Some(json!({}))).await?;
        Ok(url)
    }

    /// A whole issuance.
    pub async fn issue(&self, trusted: bool) -> Result<(), Failure> {
        let url = self.order(trusted).await?;
        self.complete(&url).await
    }

    /// Whatever is left to do of an order, up to its certificate.
    pub async fn complete(&self, url: &str) -> Result<(), Failure> {
        let since = Instant::now();
        let mut ranks = BTreeMap::new();
        loop {
            let order = self.seen_as(&mut ranks, url).await?;
            match text(&order, "status").as_str() {
                "pending" => {
                    for authorization in order["authorizations"].as_array().into_iter().flatten() {
                        let authorization = authorization.as_str().unwrap_or_default();
                        self.authorize(&mut ranks, authorization).await?;
                    }
                }
                "ready" => {
                    let name = text(&order["identifiers"][0], "value");
                    let csr = csr(&Key::new().to_rcgen(), &[&name]);
                    let payload = json!({"csr": base64url(&csr)});
                    let answer = self.ask(&text(&order, "finalize"), Some(payload)).await?;
                    // An earlier attempt was accepted, and its answer lost.
                    if answer.status != 200 && !answer.text().contains(":orderNotReady") {
                        return Err(answer.to_string());
                    }
                }
                "processing" => tokio::time::sleep(Duration::from_millis(100)).await,
                "valid" => return self.download(&order, url).await,
                _ => return Err(format!("{url} failed: {order}")),
            }
            if since.elapsed() > DEADLINE {
                return Err(format!("{url} is not finished: {order}"));
            }
        }
    }

    async fn download(&self, order: &Value, url: &str) -> Result<(), Failure> {
        let certificate = text(order, "certificate");
        let pem = self.expect(200, &certificate, None).await?.text();
        let der = Chain::parse(&pem).leaf_der().to_vec();
        self.books.certificate(url, Certificate { url: certificate, pem, der });
        Ok(())
    }

    /// Reads an order or authorization, and holds that its status never goes back (I-6).
    async fn seen_as(&self, ranks: &mut BTreeMap<String, usize>, url: &str) -> Result<Value, Failure> {
        let body = self.expect(200, url, None).await?.json();
        let order = ["pending", "ready", "processing", "valid"];
        let status = text(&body, "status");
        let rank = order.iter().position(|s| *s == status).unwrap_or(order.len());
        let last = ranks.insert(url.to_owned(), rank).unwrap_or_default();
        if rank < last {
            self.books.wrong("answers", format!("{url} went back to {status}: {body}"));
        }
        Ok(body)
    }

    async fn authorize(&self, ranks: &mut BTreeMap<String, usize>, url: &str) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let authorization = self.seen_as(ranks, url).await?;
            match text(&authorization, "status").as_str() {
                "pending" => {}
                "valid" => return Ok(()),
                _ => return Err(format!("{url} failed: {authorization}")),
            }
            let challenge = challenge(&authorization, "http-01").ok_or("no http-01")?;
            if challenge["status"] == "pending" {
                self.client.prepare(&authorization, &challenge);
                let answer = self.ask(&text(&challenge, "url"), Some(json!({}))).await?;
                if answer.status >= 300 {
                    return Err(answer.to_string());
                }
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if since.elapsed() > DEADLINE {
                return Err(format!("{url} is not finished: {authorization}"));
            }
        }
    }
}

/// The first string of a member that is an array.
fn text_at(object: &Value, member: &str) -> String {
    object[member][0].as_str().unwrap_or_default().to_owned()
}
