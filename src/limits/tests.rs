//! Limits over buckets in process, and over shared ones that go away.

use async_trait::async_trait;

use super::*;
use crate::acme::id::{AccountId, AuthorizationId};
use crate::acme::time::{ManualClock, Timestamp};
use crate::admission::Level;

/// Shared buckets that can be away.
struct Shared {
    buckets: MemoryBuckets,
    away: AtomicBool,
}

impl Shared {
    fn here(&self) -> Result<&MemoryBuckets, AdmissionError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(AdmissionError::Unavailable("away".to_owned())),
            false => Ok(&self.buckets),
        }
    }
}

#[async_trait]
impl Buckets for Shared {
    fn name(&self) -> &str {
        self.buckets.name()
    }
    async fn take(&self, charges: &[Charge]) -> Result<Taken, AdmissionError> {
        self.here()?.take(charges).await
    }
    async fn refund(&self, charges: &[Charge]) -> Result<(), AdmissionError> {
        self.here()?.refund(charges).await
    }
    async fn show(&self, keys: &[String]) -> Result<Vec<Level>, AdmissionError> {
        self.here()?.show(keys).await
    }
    async fn reset(&self, keys: &[String]) -> Result<(), AdmissionError> {
        self.here()?.reset(keys).await
    }
}

struct Fixture {
    clock: Arc<ManualClock>,
    shared: Arc<Shared>,
    limits: Limits,
}

fn fixture(capacity: u32, alone: bool) -> Fixture {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
    let buckets = MemoryBuckets::new(clock.clone());
    let shared = Arc::new(Shared { buckets, away: AtomicBool::new(false) });
    let fallback = alone.then(|| MemoryBuckets::new(clock.clone()));
    let help = Help::Page("https://ca.test/limits".to_owned());
    let limits = Limits::new(Capacities::new(|_| capacity), help, shared.clone(), fallback);
    Fixture { clock, shared, limits }
}

fn refusal(result: Result<Held, LimitError>) -> Exceeded {
    match result {
        Err(LimitError::Exceeded(exceeded)) => exceeded,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn lim_01_a_refusal_names_the_limit_the_wait_and_the_page() {
    let Fixture { clock, limits, .. } = fixture(2, true);
    let order = [Use::new_order(&AccountId::new())];
    for _ in 0..2 {
        let _ = limits.take(&order).await.unwrap();
    }
    let exceeded = refusal(limits.take(&order).await);
    assert_eq!((exceeded.limit, exceeded.capacity, exceeded.seconds), (Limit::NewOrders, 2, 1800));
    assert_eq!(exceeded.help, "https://ca.test/limits#new-orders");
    // Rounded up to whole seconds, and no further.
    clock.advance(Duration::from_millis(1_500));
    let exceeded = refusal(limits.take(&order).await);
    assert_eq!(exceeded.seconds, 1_799);
    clock.advance(Duration::from_secs(exceeded.seconds));
    let _ = limits.take(&order).await.unwrap();
}

#[tokio::test]
async fn lim_02_a_refused_request_charges_nothing_and_a_look_neither() {
    let Fixture { limits, .. } = fixture(1, true);
    let (account, name) = (AccountId::new(), Identifier::Dns("a.test".to_owned()));
    let _ = limits.take(&[Use::failed_validation(&account, &name)]).await.unwrap();
    let mut uses = vec![Use::new_order(&account)];
    uses.extend(Use::may_fail(&account, [&name, &Identifier::Dns("*.a.test".to_owned())]));
    assert_eq!(uses.len(), 2, "a name and its wildcard are one bucket");
    for _ in 0..3 {
        let exceeded = refusal(limits.take(&uses).await);
        assert_eq!(exceeded.limit, Limit::FailedValidations);
        assert_eq!(exceeded.identifier, Some(name.clone()));
    }
    let free = Use::may_fail(&account, [&Identifier::Dns("b.test".to_owned())]);
    for _ in 0..3 {
        let _ = limits.take(&free).await.unwrap();
    }
    let _ = limits.take(&[Use::new_order(&account)]).await.unwrap();
}

#[tokio::test]
async fn lim_04_limits_and_keys_are_apart() {
    let Fixture { limits, .. } = fixture(1, true);
    let (one, other) = (AccountId::new(), AccountId::new());
    let authorization = AuthorizationId::new();
    let uses = [
        Use::new_order(&one),
        Use::new_order(&other),
        Use::key_change(&one),
        Use::response(&authorization, crate::acme::challenge::ChallengeType::Http01),
        Use::response(&authorization, crate::acme::challenge::ChallengeType::Dns01),
        Use::new_account("192.0.2.1".parse().unwrap()).remove(0),
        Use::new_account("192.0.2.2".parse().unwrap()).remove(0),
        Use::new_account("2001:db8::1".parse().unwrap()).remove(0),
        Use::duplicate_certificate(&[Identifier::Dns("a.test".to_owned())]),
    ];
    for each in &uses {
        let _ = limits.take(std::slice::from_ref(each)).await.unwrap();
        refusal(limits.take(std::slice::from_ref(each)).await);
    }
}

#[tokio::test]
async fn lim_05_zero_is_off_for_all_or_for_one_key() {
    let Fixture { limits, shared, .. } = fixture(0, true);
    let account = AccountId::new();
    for _ in 0..50 {
        let _ = limits.take(&[Use::new_order(&account)]).await.unwrap();
    }
    assert_eq!(shared.buckets.held(), 0);
    // An override turns it on for one key, and another value off again.
    limits.override_with(1, [(Limit::NewOrders, account.to_string(), 1)]);
    let _ = limits.take(&[Use::new_order(&account)]).await.unwrap();
    refusal(limits.take(&[Use::new_order(&account)]).await);
    let _ = limits.take(&[Use::new_order(&AccountId::new())]).await.unwrap();
    limits.override_with(2, [(Limit::NewOrders, account.to_string(), 3)]);
    for _ in 0..2 {
        let _ = limits.take(&[Use::new_order(&account)]).await.unwrap();
    }
    refusal(limits.take(&[Use::new_order(&account)]).await);
    limits.override_with(3, []);
    let _ = limits.take(&[Use::new_order(&account)]).await.unwrap();
}

#[tokio::test]
async fn what_was_charged_is_given_back() {
    let Fixture { limits, .. } = fixture(1, true);
    let account = AccountId::new();
    let uses = [Use::new_order(&account), Use::key_change(&account)];
    for _ in 0..3 {
        let held = limits.take(&uses).await.unwrap();
        refusal(limits.take(&uses[..1]).await);
        limits.refund(held).await;
    }
    let _ = limits.take(&uses[..1]).await.unwrap();
    limits.give_back(&uses[0]).await;
    limits.give_back(&uses[0]).await;
    let _ = limits.take(&uses[..1]).await.unwrap();
    refusal(limits.take(&uses[..1]).await);
}

#[tokio::test]
async fn i_09_a_use_is_given_back_to_where_it_was_taken_or_not_at_all() {
    let Fixture { limits, shared, .. } = fixture(1, true);
    let (account, name) = (AccountId::new(), Identifier::Dns("a.test".to_owned()));
    let (order, failure) = (Use::new_order(&account), Use::failed_validation(&account, &name));
    let uses = [order.clone(), failure.clone()];
    let here = limits.take(&uses).await.unwrap();
    let buckets = limits.taken_from(&here, Limit::FailedValidations).unwrap().to_owned();
    assert_eq!(limits.taken_from(&here, Limit::KeyChanges), None);
    shared.away.store(true, Ordering::SeqCst);
    let alone = limits.take(&uses).await.unwrap();
    let own = limits.taken_from(&alone, Limit::FailedValidations).unwrap().to_owned();
    assert_ne!(own, buckets);
    shared.away.store(false, Ordering::SeqCst);
    for elsewhere in [own.as_str(), "another process's"] {
        limits.give_back_to(elsewhere, &failure).await;
        refusal(limits.take(std::slice::from_ref(&failure)).await);
    }
    shared.away.store(true, Ordering::SeqCst);
    let _ = limits.take(std::slice::from_ref(&failure)).await.unwrap();
    refusal(limits.take(std::slice::from_ref(&failure)).await);
    shared.away.store(false, Ordering::SeqCst);
    limits.give_back_to(&buckets, &failure).await;
    let _ = limits.take(std::slice::from_ref(&failure)).await.unwrap();
    refusal(limits.take(std::slice::from_ref(&failure)).await);
    // Of what was charged at once, one part alone.
    limits.refund(here.except(Limit::FailedValidations)).await;
    refusal(limits.take(std::slice::from_ref(&failure)).await);
    let _ = limits.take(std::slice::from_ref(&order)).await.unwrap();

    let Fixture { limits, .. } = fixture(0, true);
    let free = limits.take(&uses).await.unwrap();
    assert_eq!(limits.taken_from(&free, Limit::FailedValidations), None, "a limit that is off");
}

#[tokio::test]
async fn i_11_without_the_shared_buckets_each_replica_counts_alone_or_refuses() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let Fixture { limits, shared, .. } = fixture(2, true);
    let order = [Use::new_order(&AccountId::new())];
    let held = limits.take(&order).await.unwrap();
    shared.away.store(true, Ordering::SeqCst);
    let _ = limits.take(&order).await.unwrap();
    let local = limits.take(&order).await.unwrap();
    refusal(limits.take(&order).await);
    limits.refund(local).await;
    let _ = limits.take(&order).await.unwrap();
    // What was taken from the shared buckets cannot be given back now, and not to the others.
    limits.refund(held).await;
    refusal(limits.take(&order).await);
    shared.away.store(false, Ordering::SeqCst);
    let _ = limits.take(&order).await.unwrap();
    refusal(limits.take(&order).await);
    let shown = recorder.handle().render();
    for line in [
        "chancery_limits_total{limit=\"new-orders\",result=\"allowed\"} 2",
        "chancery_limits_total{limit=\"new-orders\",result=\"degraded\"} 3",
        "chancery_limits_total{limit=\"new-orders\",result=\"refused\"} 3",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }

    let Fixture { limits, shared, .. } = fixture(2, false);
    shared.away.store(true, Ordering::SeqCst);
    assert!(matches!(limits.take(&order).await, Err(LimitError::Unavailable(_))));
    shared.away.store(false, Ordering::SeqCst);
    let _ = limits.take(&order).await.unwrap();
}
