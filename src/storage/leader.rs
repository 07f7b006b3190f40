//! The one leader of the fleet (design I-12): a lease with an epoch, taken by compare-and-set.

use sqlx::Row;

use super::statement::{parameters, statements};
use super::{StorageError, Store};
use crate::acme::id::ReplicaId;
use crate::acme::time::Timestamp;

statements! {
    LEADER = "SELECT holder, epoch, lease_until FROM leader WHERE id = 1";
    /// Whoever holds it by the table and does not know (its answer was lost) takes it anew, too.
    TAKE_LEADERSHIP = "UPDATE leader SET holder = $1, epoch = epoch + 1, lease_until = $2 \
        WHERE id = 1 AND (holder IS NULL OR holder = $1 OR lease_until <= $3) RETURNING epoch";
    RENEW_LEADERSHIP = "UPDATE leader SET lease_until = $3 \
        WHERE id = 1 AND holder = $1 AND epoch = $2 AND lease_until > $4 RETURNING epoch";
    RELEASE_LEADERSHIP = "UPDATE leader SET holder = NULL, lease_until = 0 \
        WHERE id = 1 AND holder = $1 AND epoch = $2 RETURNING epoch";
}

/// What the table says of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Who took the lease last, and has not given it back.
    pub holder: Option<ReplicaId>,
    /// How often the lease was taken.
    pub epoch: i64,
    /// When it runs out unless it is renewed.
    pub lease_until: Timestamp,
}

impl Leader {
    /// Who leads at `now`.
    pub fn at(&self, now: Timestamp) -> Option<&ReplicaId> {
        self.holder.as_ref().filter(|_| self.lease_until > now)
    }
}

/// One replica's time as leader. It ends when the lease is lost; the same replica then needs a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Who leads.
    pub holder: ReplicaId,
    /// The epoch that its sweeps are fenced by.
    pub epoch: i64,
}

impl Store {
    /// Who leads, by the table.
    pub async fn leader(&self) -> Result<Leader, StorageError> {
        let rows = self.read(LEADER, parameters![]).await?;
        let Some(row) = rows.first() else {
            return Ok(Leader { holder: None, epoch: 0, lease_until: Timestamp::default() });
        };
        let holder: Option<String> = row.try_get(0)?;
        Ok(Leader {
            holder: holder.as_deref().and_then(ReplicaId::parse),
            epoch: row.try_get(1)?,
            lease_until: Timestamp::from_micros(row.try_get(2)?),
        })
    }

    /// Takes the lease until `until` if nobody holds it at `now`, and raises the epoch; `None` if another holds it.
    pub async fn take_leadership(
        &self,
        holder: &ReplicaId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Term>, StorageError> {
        let rows = self.write(TAKE_LEADERSHIP, parameters![holder, until, now]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Term { holder: holder.clone(), epoch: row.try_get(0)? }))
    }

    /// Moves the end of the lease; `false` if the term is over: the lease ran out, or another took it.
    pub async fn renew_leadership(
        &self,
        term: &Term,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        let values = parameters![&term.holder, term.epoch, until, now];
        Ok(!self.write(RENEW_LEADERSHIP, values).await?.is_empty())
    }

    /// Gives the lease back, so that another can take it at once; `false` if the term was over already.
    pub async fn release_leadership(&self, term: &Term) -> Result<bool, StorageError> {
        let values = parameters![&term.holder, term.epoch];
        Ok(!self.write(RELEASE_LEADERSHIP, values).await?.is_empty())
    }
}
