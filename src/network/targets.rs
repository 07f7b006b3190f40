//! How many connections to one target are open at once. Clients say what is connected to: together they must not make this
//! server a flood of somebody else's, nor may one silent target take all that can be done at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long one waits for a connection to a target to end: the quick ones do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections that are open, by target.
#[derive(Debug)]
pub(super) struct Targets {
    most: usize,
    open: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    of: Arc<Targets>,
    target: IpAddr,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit = None;
        self.of.forget_if_idle(self.target);
    }
}

impl Targets {
    /// At most `most` connections to one target.
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Waits a moment for a place; `None` where none became free.
    pub(super) async fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let target = target(address);
        // From here on it is forgotten when nobody has or wants a place, also if this gives up.
        let mut place = Place { of: Arc::clone(self), target, permit: None };
        let places =
            Arc::clone(self.lock().entry(target).or_insert_with(|| Arc::new(Semaphore::new(self.most))));
        let permit = tokio::time::timeout(PATIENCE, places.acquire_owned()).await;
        place.permit = Some(permit.ok()?.ok()?);
        Some(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_if_idle(&self, target: IpAddr) {
        let mut open = self.lock();
        // Others that have a place, or wait for one, hold on to it too; they come by it under this lock alone.
        if open.get(&target).is_some_and(|places| Arc::strong_count(places) == 1) {
            open.remove(&target);
        }
    }
}

/// The address; of IPv6 its /64, which is one customer's.
fn target(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_has_so_many_places_and_others_have_theirs() {
        let targets = Arc::new(Targets::new(2));
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let held = [targets.place(a).await, targets.place(a).await];
        assert!(held.iter().all(Option::is_some));
        assert!(targets.place(a).await.is_none(), "after a moment");
        assert!(targets.place(b).await.is_some());
        let (waits, ()) = tokio::join!(targets.place(a), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(held);
        });
        assert!(waits.is_some(), "one became free in time");
        drop(waits);
        assert!(targets.lock().is_empty(), "{targets:?}");
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_target() {
        let targets = Arc::new(Targets::new(1));
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let _held = targets.place(one).await.unwrap();
        assert!(targets.place(same).await.is_none());
        assert!(targets.place(other).await.is_some());
    }
}
