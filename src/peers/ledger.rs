//! The count of what is held, and who holds it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::Notify;

use super::overload::Overload;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open connections, from their acceptance on, with what is read of heads on them.
    Connections,
    /// Requests and HTTP/2 streams, from the end of their head until their answer was taken.
    OpenRequests,
    /// Requests at work.
    RunningRequests,
    /// Octets of large bodies, and of large answers that were not taken yet.
    Octets,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connections, Self::OpenRequests, Self::RunningRequests, Self::Octets];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::OpenRequests => "open_requests",
            Self::RunningRequests => "running_requests",
            Self::Octets => "octets",
        }
    }
}

/// The bounds of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In all.
    pub most: usize,
    /// For one client: an IPv4 address, or an IPv6 /64. A /48, which a site has, may hold four times as much.
    pub share: usize,
}

/// The bounds of every resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of connections.
    pub connections: Bound,
    /// Of open requests.
    pub open_requests: Bound,
    /// Of requests at work.
    pub running_requests: Bound,
    /// Of octets.
    pub octets: Bound,
}

impl Bounds {
    /// So many connections, each with a request, whoever they are of: for a listener that strangers do not reach.
    pub const fn of_connections(connections: usize) -> Self {
        let many = Bound { most: connections, share: connections };
        let octets = connections * super::budget::SMALL_BODY;
        let octets = Bound { most: octets, share: octets };
        Self { connections: many, open_requests: many, running_requests: many, octets }
    }

    const fn of(&self, resource: Resource) -> Bound {
        match resource {
            Resource::Connections => self.connections,
            Resource::OpenRequests => self.open_requests,
            Resource::RunningRequests => self.running_requests,
            Resource::Octets => self.octets,
        }
    }
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// All peers together hold as much as may be held.
    #[error("all clients together hold as much as they may")]
    All,
    /// This client holds its share.
    #[error("this client holds as much as it may")]
    Client,
}

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Client => "client",
        }
    }
}

/// Who shares a share. A site commonly has a /64 to choose addresses from, and may have a /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(Ipv4Addr),
    V6By64([u16; 4]),
    V6By48([u16; 3]),
}

impl Network {
    /// The networks of an address, with how many shares each has.
    fn of(address: IpAddr) -> [Option<(Self, usize)>; 2] {
        match address.to_canonical() {
            IpAddr::V4(address) => [Some((Self::V4(address), 1)), None],
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                [Some((Self::V6By64([a, b, c, d]), 1)), Some((Self::V6By48([a, b, c]), 4))]
            }
        }
    }
}

type Counts = [usize; Resource::ALL.len()];

/// Locks are short, and clients seldom share one.
const SHARDS: usize = 32;

struct Counted {
    total: AtomicUsize,
    shown: Gauge,
    refused_of_all: Counter,
    refused_of_client: Counter,
}

impl Counted {
    fn new(resource: Resource) -> Self {
        let what = resource.name();
        let refused =
            |over: Over| counter!("chancery_peers_refused_total", "what" => what, "bound" => over.name());
        Self {
            total: AtomicUsize::new(0),
            shown: gauge!("chancery_peers_held", "what" => what),
            refused_of_all: refused(Over::All),
            refused_of_client: refused(Over::Client),
        }
    }
}

/// What all peers hold. One a listener.
pub struct Ledger {
    bounds: Bounds,
    counted: [Counted; Resource::ALL.len()],
    shards: [Mutex<HashMap<Network, Counts>>; SHARDS],
    hasher: RandomState,
    connection_ended: Notify,
    overload: Overload,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            counted: Resource::ALL.map(Counted::new),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            connection_ended: Notify::new(),
            overload: Overload::new(bounds.running_requests.most),
        })
    }

    /// Takes `amount` for `client`, or for a trusted load balancer, whose clients pay for themselves, where that is
    /// `None`. At least `spare` is left for others.
    ///
    /// # Errors
    /// The bound that would be passed; nothing is taken then.
    pub fn take(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        resource: Resource,
        amount: usize,
        spare: usize,
    ) -> Result<Held, Over> {
        let most = self.bounds.of(resource).most.saturating_sub(spare);
        let counted = &self.counted[resource as usize];
        let fits = |held: usize| held.checked_add(amount).filter(|sum| *sum <= most);
        if counted.total.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            counted.refused_of_all.increment(1);
            return Err(Over::All);
        }
        let mut held = Held { ledger: Arc::clone(self), networks: [None; 2], resource, amount };
        counted.shown.increment(float(amount));
        match client {
            Some(client) => held.assign(client).map(|()| held),
            None => Ok(held),
        }
    }

    /// Charges `amount` to `client` whatever the bounds say: for what is there already, so that only what comes next is
    /// refused.
    pub fn charge(self: &Arc<Self>, client: Option<IpAddr>, resource: Resource, amount: usize) -> Held {
        let counted = &self.counted[resource as usize];
        counted.total.fetch_add(amount, Ordering::AcqRel);
        counted.shown.increment(float(amount));
        let mut held = Held { ledger: Arc::clone(self), networks: [None; 2], resource, amount };
        for (at, (network, _)) in client.map(Network::of).into_iter().flatten().flatten().enumerate() {
            held.add(at, network, usize::MAX);
        }
        held
    }

    /// Waits until another connection may be accepted.
    pub async fn room_for_a_connection(&self) {
        let most = self.bounds.connections.most;
        loop {
            let ended = self.connection_ended.notified();
            if self.counted[Resource::Connections as usize].total.load(Ordering::Acquire) < most {
                return;
            }
            ended.await;
        }
    }

    /// How many seconds a client that was turned away waits; it counts as turned away (GEN-16).
    pub fn retry_after(&self) -> u32 {
        self.overload.turned_away()
    }

    /// The bound of a resource.
    pub fn bound(&self, resource: Resource) -> Bound {
        self.bounds.of(resource)
    }

    fn shard(&self, network: &Network) -> &Mutex<HashMap<Network, Counts>> {
        // Of any hash the remainder is below the number of shards.
        let hash = usize::try_from(self.hasher.hash_one(network) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn float(amount: usize) -> f64 {
    amount as f64
}

/// What was taken; given back when it is dropped.
#[must_use = "what is dropped is given back"]
pub struct Held {
    ledger: Arc<Ledger>,
    networks: [Option<Network>; 2],
    resource: Resource,
    amount: usize,
}

impl Held {
    /// Makes `client` pay for what nobody paid for yet: behind a load balancer it is known later.
    ///
    /// # Errors
    /// Its share is used up; what was taken is to be dropped.
    pub fn assign(&mut self, client: IpAddr) -> Result<(), Over> {
        let Bound { most, share } = self.ledger.bounds.of(self.resource);
        for (at, (network, shares)) in Network::of(client).into_iter().flatten().enumerate() {
            if !self.add(at, network, share.saturating_mul(shares).min(most)) {
                self.ledger.counted[self.resource as usize].refused_of_client.increment(1);
                return Err(Over::Client);
            }
        }
        Ok(())
    }

    fn add(&mut self, at: usize, network: Network, most: usize) -> bool {
        let mut shard = self.ledger.shard(&network).lock().unwrap_or_else(PoisonError::into_inner);
        let counts = shard.entry(network).or_default();
        let count = &mut counts[self.resource as usize];
        let fits = count.checked_add(self.amount).is_some_and(|sum| sum <= most);
        if fits {
            *count += self.amount;
            self.networks[at] = Some(network);
        } else if counts.iter().all(|count| *count == 0) {
            shard.remove(&network);
        }
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for network in self.networks.into_iter().flatten() {
            let mut shard = self.ledger.shard(&network).lock().unwrap_or_else(PoisonError::into_inner);
            let Some(counts) = shard.get_mut(&network) else { continue };
            counts[self.resource as usize] -= self.amount;
            if counts.iter().all(|count| *count == 0) {
                shard.remove(&network);
            }
        }
        let counted = &self.ledger.counted[self.resource as usize];
        counted.total.fetch_sub(self.amount, Ordering::AcqRel);
        counted.shown.decrement(float(self.amount));
        if self.resource == Resource::Connections {
            self.ledger.connection_ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(most: usize, share: usize) -> Arc<Ledger> {
        let bound = Bound { most, share };
        Ledger::new(Bounds {
            connections: bound,
            open_requests: bound,
            running_requests: bound,
            octets: bound,
        })
    }

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    const WHAT: Resource = Resource::OpenRequests;

    #[test]
    fn nobody_takes_more_than_a_share_and_all_no_more_than_there_is() {
        let ledger = ledger(10, 4);
        let take = |who: &str, amount| ledger.take(client(who), WHAT, amount, 0);
        let first = take("192.0.2.1", 3).ok().unwrap();
        assert_eq!(take("192.0.2.1", 2).err(), Some(Over::Client));
        let rest = take("192.0.2.1", 1).ok().unwrap();
        // The same address, however it is written.
        assert_eq!(take("::ffff:192.0.2.1", 1).err(), Some(Over::Client));
        let others: Vec<_> = ["192.0.2.2", "192.0.2.3"].map(|who| take(who, 3).ok().unwrap()).into();
        assert_eq!(take("192.0.2.4", 1).err(), Some(Over::All));
        drop(rest);
        drop(take("192.0.2.4", 1).ok().unwrap());
        drop((first, others));
        assert!(
            ledger.shards.iter().all(|shard| shard.lock().unwrap().is_empty()),
            "nothing is kept of clients"
        );
        drop(ledger.take(None, WHAT, 10, 0).ok().unwrap());
    }

    #[test]
    fn ipv6_counts_by_64_and_by_48() {
        let ledger = ledger(100, 2);
        let take = |who: &str| ledger.take(client(who), WHAT, 2, 0);
        let mut held = vec![take("2001:db8:1:1::1").ok().unwrap()];
        assert_eq!(take("2001:db8:1:1:ffff::").err(), Some(Over::Client), "the same /64");
        held.extend((2..5).map(|net| take(&format!("2001:db8:1:{net}::1")).ok().unwrap()));
        assert_eq!(take("2001:db8:1:5::1").err(), Some(Over::Client), "the /48 has four shares");
        held.push(take("2001:db8:2:5::1").ok().unwrap());
        drop(held.remove(0));
        drop(take("2001:db8:1:5::1").ok().unwrap());
    }

    #[test]
    fn a_balancer_pays_for_nobody_and_its_clients_pay_when_they_are_known() {
        let ledger = ledger(10, 1);
        let mut all: Vec<_> = (0..9).map(|_| ledger.take(None, WHAT, 1, 0).ok().unwrap()).collect();
        assert!(ledger.take(None, WHAT, 1, 1).is_err(), "one is spared");
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        all[0].assign(address).unwrap();
        assert_eq!(all[1].assign(address), Err(Over::Client));
        drop(all);
        drop(ledger.take(Some(address), WHAT, 1, 0).ok().unwrap());
    }

    #[test]
    fn what_is_there_already_is_charged_over_the_bound() {
        let ledger = ledger(10, 5);
        let held = ledger.charge(client("192.0.2.1"), WHAT, 7);
        assert_eq!(ledger.take(client("192.0.2.1"), WHAT, 1, 0).err(), Some(Over::Client));
        drop(held);
        drop(ledger.take(client("192.0.2.1"), WHAT, 5, 0).ok().unwrap());
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room() {
        let ledger = ledger(1, 1);
        let held = ledger.take(None, Resource::Connections, 1, 0).ok().unwrap();
        let waiting = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.room_for_a_connection().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
