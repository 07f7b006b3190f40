//! What clients were promised while faults were injected, and whether it still holds afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::walker::{Patience, Site, Walker};
use crate::support::keys::sha256;
use crate::support::run::SplitMix;

/// A certificate as it was downloaded.
#[derive(Clone)]
pub struct Certificate {
    pub url: String,
    pub pem: String,
    pub der: Vec<u8>,
}

#[derive(Default)]
struct Ledger {
    seen: BTreeMap<&'static str, usize>,
    orders: Vec<(String, String, Value)>,
    certificates: HashMap<String, Certificate>,
    spent: Vec<(String, String)>,
    unanswered: Vec<(String, String)>,
    doomed: Vec<(Arc<Walker>, String)>,
    wrong: Vec<(&'static str, String)>,
}

/// The books of one fault.
#[derive(Default)]
pub struct Books {
    ledger: Mutex<Ledger>,
    accounts: Mutex<Vec<Arc<Walker>>>,
}

/// The invariants, in the order of the table's columns.
pub const INVARIANTS: [&str; 7] = ["answers", "kept", "finished", "serials", "nonces", "limits", "rest"];

/// How long after a fault nothing may be left in progress.
const REST_WITHIN: Duration = Duration::from_secs(30);

/// How many of the many are tried.
const SAMPLE: usize = 40;

impl Books {
    fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.ledger.lock().expect("not poisoned"))
    }

    /// Counts something that a client met, and coped with.
    pub fn seen(&self, what: &'static str) {
        self.with(|ledger| *ledger.seen.entry(what).or_default() += 1);
    }

    /// Writes down that an invariant does not hold.
    pub fn wrong(&self, invariant: &'static str, what: String) {
        println!("    WRONG ({invariant}): {what}");
        self.with(|ledger| ledger.wrong.push((invariant, what)));
    }

    /// An account was made, or found.
    pub fn account(&self, walker: &Arc<Walker>) {
        self.accounts.lock().expect("not poisoned").push(Arc::clone(walker));
    }

    /// new-order answered 201.
    pub fn order(&self, account: &str, url: &str, body: &Value) {
        self.with(|ledger| ledger.orders.push((account.to_owned(), url.to_owned(), body.clone())));
    }

    /// An order is to fail.
    pub fn doomed(&self, walker: &Arc<Walker>, url: String) {
        self.with(|ledger| ledger.doomed.push((Arc::clone(walker), url)));
    }

    /// A certificate was downloaded.
    pub fn certificate(&self, order: &str, certificate: Certificate) {
        let before = self.with(|ledger| ledger.certificates.insert(order.to_owned(), certificate.clone()));
        if before.is_some_and(|before| before.pem != certificate.pem) {
            self.wrong("serials", format!("{order} has had two certificates"));
        }
    }

    /// This request was accepted: its nonce is spent.
    pub fn spent(&self, url: &str, body: String) {
        self.with(|ledger| ledger.spent.push((url.to_owned(), body)));
    }

    /// Whether this request was accepted is not known.
    pub fn unanswered(&self, url: &str, body: String) {
        self.with(|ledger| ledger.unanswered.push((url.to_owned(), body)));
    }

    /// What clients met.
    pub fn seen_so_far(&self) -> BTreeMap<&'static str, usize> {
        self.with(|ledger| ledger.seen.clone())
    }

    /// How many certificates were downloaded.
    pub fn certificates(&self) -> usize {
        self.with(|ledger| ledger.certificates.len())
    }

    /// How often each invariant was broken, and an example.
    pub fn broken(&self) -> Vec<(&'static str, String)> {
        self.with(|ledger| ledger.wrong.clone())
    }

    /// Checks all invariants; how long it took from `end` until nothing was in progress any more.
    pub async fn check(self: &Arc<Self>, site: &Arc<Site>, seed: u64, end: Instant) -> Duration {
        let rest = self.comes_to_rest(site, end).await;
        let mut random = SplitMix::new(seed);
        self.nonces_stay_spent(site, &mut random).await;
        self.accounts_are_kept().await;
        self.orders_are_kept_and_finished(site).await;
        self.the_doomed_failed().await;
        self.comes_to_rest(site, end).await;
        self.serials_are_recorded(site);
        self.redis_forgets(site).await;
        rest
    }

    /// No nonce is accepted twice: what was accepted is refused, and what was not answered is accepted once at most.
    async fn nonces_stay_spent(self: &Arc<Self>, site: &Arc<Site>, random: &mut SplitMix) {
        let walker = Walker::new(site, self, Patience::Client);
        let (spent, unanswered) = self.with(|ledger| (ledger.spent.clone(), ledger.unanswered.clone()));
        let mut pick = |from: &[(String, String)]| -> Vec<(String, String)> {
            let length = from.len() as u64;
            (0..SAMPLE.min(from.len()))
                .map(|_| from[usize::try_from(random.below(length)).expect("small")].clone())
                .collect()
        };
        let (spent, unanswered) = (pick(&spent), pick(&unanswered));
        for (url, body) in spent {
            match walker.exchange("POST", &url, body).await {
                Ok(answer) if answer.status < 400 => {
                    self.wrong("nonces", format!("accepted again: {answer}"));
                }
                _ => {}
            }
        }
        for (url, body) in unanswered {
            let mut accepted = 0;
            for _ in 0..3 {
                let answer = walker.exchange("POST", &url, body.clone()).await;
                accepted += usize::from(answer.is_ok_and(|answer| answer.status < 400));
            }
            if accepted > 1 {
                self.wrong("nonces", format!("{url}: one nonce was accepted {accepted} times"));
            }
        }
    }

    async fn accounts_are_kept(&self) {
        let walkers = self.accounts.lock().expect("not poisoned").clone();
        for_each(&walkers, async |walker| {
            let url = walker.url("new-account");
            let answer = walker.ask(&url, Some(json!({"onlyReturnExisting": true}))).await;
            match answer {
                Ok(answer) if answer.status == 200 && answer.location() == walker.client.account() => {}
                other => self.wrong("kept", format!("account {}: {other:?}", walker.client.account())),
            }
        })
        .await;
    }

    /// Every order on record that is not final, whether its client was answered or not, is finished by the client whose
    /// it is; then orders and certificates are as they were shown.
    async fn orders_are_kept_and_finished(&self, site: &Site) {
        let walkers = self.accounts.lock().expect("not poisoned").clone();
        let of = |account: &str| walkers.iter().find(|walker| walker.client.account().ends_with(account));
        let open = site.server.sql("SELECT id, account_id FROM orders WHERE progress <> 'valid'");
        let doomed: Vec<_> = self.with(|ledger| ledger.doomed.iter().map(|(_, url)| url.clone()).collect());
        for_each(open.lines(), async |line| {
            let (id, account) = line.split_once('|').expect("two columns");
            let Some(walker) = of(account) else { return };
            let url = walker.url(&format!("order/{id}"));
            if !doomed.contains(&url)
                && let Err(why) = walker.complete(&url).await
            {
                self.wrong("finished", format!("{url}: {why}"));
            }
        })
        .await;
        let (orders, certificates) = self.with(|ledger| (ledger.orders.clone(), ledger.certificates.clone()));
        for_each(&orders, async |(account, url, first)| {
            let Some(walker) = of(account) else { return };
            self.order_is_kept(walker, url, first, certificates.get(url)).await;
        })
        .await;
    }

    async fn order_is_kept(&self, walker: &Walker, url: &str, first: &Value, issued: Option<&Certificate>) {
        let now = match walker.ask(url, None).await {
            Ok(answer) if answer.status == 200 => answer.json(),
            other => return self.wrong("kept", format!("order {url}: {other:?}")),
        };
        for member in ["identifiers", "authorizations", "finalize", "expires"] {
            if now[member] != first[member] {
                self.wrong("kept", format!("{member} of {url}: {first} became {now}"));
            }
        }
        let Some(certificate) = issued else { return };
        let again = walker.ask(&certificate.url, None).await;
        if now["status"] != "valid" || now["certificate"] != json!(certificate.url) {
            self.wrong("kept", format!("{url} had a certificate: {now}"));
        }
        if !again.is_ok_and(|answer| answer.status == 200 && answer.text() == certificate.pem) {
            self.wrong("kept", format!("{} is not what was downloaded", certificate.url));
        }
    }

    async fn the_doomed_failed(&self) {
        let start = Instant::now();
        for (walker, url) in self.with(|ledger| ledger.doomed.clone()) {
            loop {
                let status = walker.ask(&url, None).await.map(|answer| answer.json()["status"].clone());
                match status {
                    Ok(status) if status == "invalid" => break,
                    Ok(_) if start.elapsed() < REST_WITHIN => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => {
                        self.wrong("finished", format!("{url} was to fail: {other:?}"));
                        break;
                    }
                }
            }
        }
    }

    /// Waits until no job is open and no lease held.
    async fn comes_to_rest(&self, site: &Site, end: Instant) -> Duration {
        let start = Instant::now();
        loop {
            let left = site.server.left_over();
            if left.is_empty() {
                return end.elapsed();
            }
            if start.elapsed() > REST_WITHIN {
                self.wrong("rest", left.join("; "));
                return end.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What was downloaded is what is on record; one certificate an order; no serial without its certificate.
    fn serials_are_recorded(&self, site: &Site) {
        let rows = site.server.sql("SELECT order_id, encode(sha256(der), 'hex') FROM certificates");
        let recorded: HashMap<_, _> = rows.lines().filter_map(|line| line.split_once('|')).collect();
        for (order, certificate) in self.with(|ledger| ledger.certificates.clone()) {
            let id = order.rsplit('/').next().unwrap_or_default();
            let digest: String =
                sha256(&certificate.der).iter().map(|octet| format!("{octet:02x}")).collect();
            if recorded.get(id).copied() != Some(digest.as_str()) {
                self.wrong("serials", format!("the certificate of {order} is not on record"));
            }
        }
        // What was signed is said in the log once it is on record; nothing else may have been signed for good.
        let serials = site.server.sql("SELECT serial FROM certificates WHERE der IS NOT NULL");
        let serials: std::collections::HashSet<_> = serials.lines().collect();
        for line in
            site.server.log().lines().filter(|line| line.contains("\"issued\"") || line.contains(" issued"))
        {
            let serial = line.split("serial").nth(1).map(|rest| rest.trim_start_matches(['"', ':', '=']));
            let serial: String =
                serial.unwrap_or_default().chars().take_while(char::is_ascii_hexdigit).collect();
            if !serial.is_empty() && !serials.contains(serial.as_str()) {
                self.wrong("serials", format!("not on record: {line}"));
            }
        }
    }

    async fn redis_forgets(&self, site: &Site) {
        let redis = site.server.redis().expect("a fleet has Redis");
        for key in redis.command::<Vec<String>>(&["KEYS", "*"]).await {
            if redis.command::<i64>(&["PTTL", &key]).await == -1 {
                self.wrong("rest", format!("the key {key} stays for ever"));
            }
        }
    }
}

/// Does the work for each, some at a time.
async fn for_each<T>(items: impl IntoIterator<Item = T>, work: impl AsyncFn(T)) {
    futures_util::stream::iter(items).for_each_concurrent(8, |item| work(item)).await;
}
