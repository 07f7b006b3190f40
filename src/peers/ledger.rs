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

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("resource", &self.resource)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
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
mod tests;
