//! An ACME client that can send right and wrong things: every part of a signed request can be replaced. Each request
//! goes to the next replica, whatever host its URL names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use serde_json::{Map, Value, json};

use crate::support::chancery::Deployment;
use crate::support::keys::{Key, base64url};
use crate::support::response::Response;
use crate::support::transport::{Connections, TransportError, Version};

/// A client with one key, and with an account once it has one.
pub struct Client {
    /// The server.
    pub server: Arc<Deployment>,
    /// The key that signs.
    pub key: Key,
    /// The version of HTTP.
    pub version: Version,
    account: OnceLock<String>,
    directory: OnceLock<Value>,
    nonces: Mutex<Vec<(Instant, String)>>,
    connections: Connections,
    turn: AtomicUsize,
}

impl Deployment {
    /// A client with a new P-256 key and no account.
    pub fn client(self: &Arc<Self>) -> Client {
        self.client_with(Key::new())
    }

    /// A client with this key and no account.
    pub fn client_with(self: &Arc<Self>, key: Key) -> Client {
        Client {
            server: Arc::clone(self),
            key,
            version: Version::Http1,
            account: OnceLock::new(),
            directory: OnceLock::new(),
            nonces: Mutex::default(),
            connections: Connections::default(),
            turn: AtomicUsize::new(self.next()),
        }
    }
}

impl Client {
    /// The URL of the account; panics while there is none.
    pub fn account(&self) -> &str {
        self.account.get().expect("the client has an account")
    }

    /// Takes `url` for its account from here on.
    pub fn use_account(&self, url: &str) {
        self.account.set(url.to_owned()).expect("only one account");
    }

    /// The same client, speaking HTTP/2.
    pub fn over_http2(mut self) -> Self {
        self.version = Version::Http2;
        self
    }

    /// Throws away the nonces at hand: a server that keeps its nonces in memory forgets them when it is restarted.
    pub fn forget_nonces(&self) {
        self.nonces.lock().expect("not poisoned").clear();
    }

    /// `token.thumbprint` (RFC 8555 §8.1).
    pub fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.key.thumbprint())
    }

    /// The URL that the directory gives for `resource`.
    pub async fn resource(&self, resource: &str) -> String {
        if self.directory.get().is_none() {
            let directory = self.get(&self.server.directory).await.expect(200).json();
            self.directory.set(directory).ok();
        }
        let directory = self.directory.get().expect("set above");
        directory[resource].as_str().unwrap_or_else(|| panic!("no {resource}: {directory}")).to_owned()
    }

    /// A fresh nonce from new-nonce, by the next replica.
    pub async fn fresh_nonce(&self) -> String {
        let url = self.resource("newNonce").await;
        let response = self.plain(Method::HEAD, &url).send().await.expect(200);
        response.nonce().unwrap_or_else(|| panic!("no nonce: {response}"))
    }

    /// A GET.
    pub async fn get(&self, url: &str) -> Response {
        self.plain(Method::GET, url).send().await
    }

    /// A POST-as-GET (RFC 8555 §6.3).
    pub async fn read(&self, url: &str) -> Response {
        self.post(url).send().await
    }

    /// A signed POST with a JSON payload.
    pub async fn send(&self, url: &str, payload: Value) -> Response {
        self.post(url).json(payload).send().await
    }

    /// A request without a JWS.
    pub fn plain(&self, method: Method, url: &str) -> Ask<'_> {
        Ask::new(self, method, url)
    }

    /// A signed request to `url`, right in everything until told otherwise: by `kid` if the client has an account and
    /// by `jwk` if not, with the empty payload.
    pub fn post(&self, url: &str) -> Post<'_> {
        let key_member = match self.account.get() {
            Some(account) => ("kid".to_owned(), json!(account)),
            None => ("jwk".to_owned(), self.key.jwk()),
        };
        let protected = Map::from_iter([
            ("alg".into(), json!(self.key.algorithm())),
            ("url".into(), json!(url)),
            key_member,
        ]);
        Post {
            ask: Ask::new(self, Method::POST, url).header("content-type", "application/jose+json"),
            signer: &self.key,
            protected,
            nonce: Nonce::Next,
            payload: Vec::new(),
            protected_text: None,
            signature: None,
            outer: None,
        }
    }

    /// The number of the replica whose turn it is; those that cannot answer are left out, as a load balancer does.
    fn next(&self) -> usize {
        let mut turns = (0..self.server.size()).map(|_| self.turn.fetch_add(1, Ordering::Relaxed));
        let fallback = self.turn.load(Ordering::Relaxed);
        turns.find(|turn| self.server.replica(*turn).takes_requests()).unwrap_or(fallback)
    }

    async fn nonce(&self) -> String {
        // A nonce that lay around may have expired where lifetimes are short.
        let kept = self.nonces.lock().expect("not poisoned").pop();
        let is_good = |since: &Instant| {
            since.elapsed() < Duration::from_secs(1) && self.server.honours_nonces_of(*since)
        };
        match kept.filter(|(since, _)| is_good(since)) {
            Some((_, nonce)) => nonce,
            None => self.fresh_nonce().await,
        }
    }
}

/// A request, before it is sent.
pub struct Ask<'a> {
    client: &'a Client,
    replica: Option<usize>,
    url: String,
    builder: http::request::Builder,
    method: Method,
    body: Bytes,
}

impl<'a> Ask<'a> {
    fn new(client: &'a Client, method: Method, url: &str) -> Self {
        let builder = http::Request::builder().method(method.clone()).header("user-agent", "chancery-it");
        Self { client, replica: None, url: url.to_owned(), builder, method, body: Bytes::new() }
    }

    /// With a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(headers) = self.builder.headers_mut() {
            headers.remove(name);
        }
        self.builder = self.builder.header(name, value);
        self
    }

    /// Without a header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.builder.headers_mut().expect("no error so far").remove(name);
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Through one chosen replica.
    pub fn through(mut self, replica: usize) -> Self {
        self.replica = Some(replica);
        self
    }

    /// Sends it; panics if no answer comes.
    pub async fn send(self) -> Response {
        let (method, url) = (self.method.clone(), self.url.clone());
        self.try_send().await.unwrap_or_else(|error| panic!("{method} {url}: {error}"))
    }

    /// Sends it.
    pub async fn try_send(self) -> Result<Response, TransportError> {
        let Self { client, replica, url, builder, method, body } = self;
        let server = &client.server;
        let replica = replica.unwrap_or_else(|| client.next());
        let public = server.replica(replica).public_endpoint(&url);
        let is_ours = public.is_some() || url.starts_with(&server.base_url);
        assert!(is_ours, "{url} is not under {} (GEN-09)", server.base_url);
        let request = builder.uri(url.as_str()).body(Full::new(body)).expect("a request");
        let endpoint = public.as_ref().unwrap_or_else(|| server.replica(replica).endpoint());
        let answer = client.connections.exchange(endpoint, client.version, request).await?;
        let (parts, body) = answer.into_parts();
        let request = format!("{method} {url} (replica {})", replica % server.size());
        let response = Response { request, status: parts.status.as_u16(), headers: parts.headers, body };
        // Only nonces of POSTs are kept: those of new-nonce have a caller who wants them.
        if let Some(nonce) = response.nonce().filter(|_| method == Method::POST) {
            client.nonces.lock().expect("not poisoned").push((Instant::now(), nonce));
        }
        Ok(response)
    }
}

enum Nonce {
    Next,
    Given(Value),
    None,
}

type Change<T> = Box<dyn FnOnce(T) -> T + Send>;

/// A signed request, before it is sent.
pub struct Post<'a> {
    ask: Ask<'a>,
    signer: &'a Key,
    protected: Map<String, Value>,
    nonce: Nonce,
    payload: Vec<u8>,
    protected_text: Option<Change<String>>,
    signature: Option<Change<Vec<u8>>>,
    outer: Option<Change<Value>>,
}

impl<'a> Post<'a> {
    /// With a JSON payload.
    pub fn json(mut self, payload: Value) -> Self {
        self.payload = payload.to_string().into_bytes();
        self
    }

    /// With a payload of any octets.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// With a member of the protected header set or replaced.
    pub fn protect(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.protected.insert(member.to_owned(), value.into());
        self
    }

    /// Without a member of the protected header.
    pub fn unprotect(mut self, member: &str) -> Self {
        self.protected.remove(member);
        self
    }

    /// Named by the account URL `kid` alone.
    pub fn by_kid(self, kid: &str) -> Self {
        self.unprotect("jwk").protect("kid", kid)
    }

    /// Named by the public key alone.
    pub fn by_jwk(self) -> Self {
        let jwk = self.signer.jwk();
        self.unprotect("kid").protect("jwk", jwk)
    }

    /// Signed by another key; what names the signer stays as it is.
    pub fn signed_by(mut self, key: &'a Key) -> Self {
        self.signer = key;
        self.protect("alg", key.algorithm())
    }

    /// With this nonce.
    pub fn nonce(mut self, nonce: impl Into<Value>) -> Self {
        self.nonce = Nonce::Given(nonce.into());
        self
    }

    /// Without a nonce.
    pub fn no_nonce(mut self) -> Self {
        self.nonce = Nonce::None;
        self
    }

    /// With the text of the protected header changed, then signed as it is.
    pub fn protected_text(mut self, change: impl FnOnce(String) -> String + Send + 'static) -> Self {
        self.protected_text = Some(Box::new(change));
        self
    }

    /// With the signature changed.
    pub fn signature(mut self, change: impl FnOnce(Vec<u8>) -> Vec<u8> + Send + 'static) -> Self {
        self.signature = Some(Box::new(change));
        self
    }

    /// With the JWS object changed after it was signed. A JSON string becomes the body as its bare text.
    pub fn outer(mut self, change: impl FnOnce(Value) -> Value + Send + 'static) -> Self {
        self.outer = Some(Box::new(change));
        self
    }

    /// With a header line of HTTP.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.ask = self.ask.header(name, value);
        self
    }

    /// Without a header of HTTP.
    pub fn without_header(mut self, name: &str) -> Self {
        self.ask = self.ask.without_header(name);
        self
    }

    /// Through one chosen replica.
    pub fn through(mut self, replica: usize) -> Self {
        self.ask = self.ask.through(replica);
        self
    }

    /// Signs it and does not send it: the whole body. An inner JWS is made so.
    pub fn sealed(mut self) -> Value {
        match std::mem::replace(&mut self.nonce, Nonce::None) {
            Nonce::Given(nonce) => drop(self.protected.insert("nonce".into(), nonce)),
            Nonce::Next | Nonce::None => {}
        }
        let mut text = Value::Object(self.protected).to_string();
        if let Some(change) = self.protected_text {
            text = change(text);
        }
        let (protected, payload) = (base64url(text.as_bytes()), base64url(&self.payload));
        let mut signature = self.signer.sign(format!("{protected}.{payload}").as_bytes());
        if let Some(change) = self.signature {
            signature = change(signature);
        }
        let jws = json!({"protected": protected, "payload": payload, "signature": base64url(&signature)});
        match self.outer {
            Some(change) => change(jws),
            None => jws,
        }
    }

    /// Signs it with a nonce: what is left to do is to send it.
    pub async fn ready(mut self) -> Ask<'a> {
        if matches!(self.nonce, Nonce::Next) {
            self.nonce = Nonce::Given(self.ask.client.nonce().await.into());
        }
        let ask = Ask { body: Bytes::new(), ..self.ask };
        let sealed = Post { ask: Ask::new(ask.client, Method::POST, ""), ..self }.sealed();
        let body = match sealed {
            Value::String(text) => text,
            other => other.to_string(),
        };
        ask.body(body)
    }

    /// Signs and sends it; panics if no answer comes.
    pub async fn send(self) -> Response {
        self.ready().await.send().await
    }
}
