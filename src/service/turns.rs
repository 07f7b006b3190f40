//! Turns: how many jobs of a kind run at once, in fair shares. Accounts take turns whatever each of them has waiting, and none
//! has more than its share at work. The last places are for accounts that have nothing at work, so that whoever comes next
//! finds one at once, however slow the others' work is. Repetitions let first tries pass.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::acme::id::AccountId;

/// How many jobs of one account may wait here, in shares of it. More wait in the store, where they cost no memory.
const MOST_WAITING: usize = 16;

/// One place of so many is for accounts that have nothing at work.
const NEWCOMERS: usize = 4;

/// While both wait, one turn of so many is a repetition's, so that it is not put off for ever.
const REPETITION_EACH: u64 = 4;

/// Which try of a job a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// The first.
    First,
    /// A later one, after a failure that may pass.
    Repetition,
}

/// Gives turns to jobs of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bound: Bound,
    state: Mutex<State>,
}

/// What one account may have at work.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// At most.
    share: usize,
    /// No second one while no more places than this are free.
    kept: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    next_ticket: u64,
    given: u64,
    accounts: HashMap<AccountId, Account>,
    /// Accounts with a first try that waits, and with a repetition; the next one first.
    rounds: [VecDeque<AccountId>; 2],
}

#[derive(Debug, Default)]
struct Account {
    running: usize,
    waiting: [BTreeMap<u64, oneshot::Sender<()>>; 2],
    in_round: [bool; 2],
}

impl Account {
    fn waiting(&self) -> usize {
        self.waiting.iter().map(BTreeMap::len).sum()
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting() == 0 && self.in_round == [false; 2]
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    of: Arc<Shared>,
    account: AccountId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.give_back(&self.account);
    }
}

impl Turns {
    /// At most `at_once` in all, and `share` for one account.
    pub fn new(at_once: usize, share: usize) -> Self {
        let state = State {
            free: at_once,
            next_ticket: 0,
            given: 0,
            accounts: HashMap::new(),
            rounds: [VecDeque::new(), VecDeque::new()],
        };
        let bound = Bound { share: share.clamp(1, at_once.max(1)), kept: at_once / NEWCOMERS };
        Self(Arc::new(Shared { bound, state: Mutex::new(state) }))
    }

    /// Waits for a turn; `None` at once where too many of the account's first tries wait.
    pub async fn turn(&self, account: &AccountId, which: Try) -> Option<Turn> {
        let shared = &self.0;
        let (granted, turn) = oneshot::channel();
        let mut place = shared.enter(account, which, granted)?;
        // The sender is dropped with the state alone.
        turn.await.ok()?;
        place.taken = true;
        Some(Turn { of: Arc::clone(shared), account: account.clone() })
    }

    /// How many more jobs could be put to work now, whosever they are.
    pub fn free(&self) -> usize {
        self.0.lock().free
    }

    /// How many more jobs of an account are worth taking from the store: none while it has its share at work or waiting
    /// here; else so many that places do not lie empty until the next look.
    pub fn room(&self, account: &AccountId) -> usize {
        let held =
            self.0.lock().accounts.get(account).map_or(0, |account| account.running + account.waiting());
        if held >= self.0.bound.share { 0 } else { 2 * self.0.bound.share - held }
    }
}

/// A place among those that wait.
struct Waiting<'a> {
    of: &'a Shared,
    account: &'a AccountId,
    which: Try,
    ticket: u64,
    taken: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.of.lock();
        let account = state.accounts.get_mut(self.account);
        let waited = account
            .is_some_and(|account| account.waiting[self.which as usize].remove(&self.ticket).is_some());
        if waited {
            state.forget_if_idle(self.account);
        } else {
            // It was given a turn, and is gone before it knew.
            drop(state);
            self.of.give_back(self.account);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter<'a>(
        &'a self,
        id: &'a AccountId,
        which: Try,
        granted: oneshot::Sender<()>,
    ) -> Option<Waiting<'a>> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        let account = state.accounts.entry(id.clone()).or_default();
        if which == Try::First && account.waiting() >= MOST_WAITING * self.bound.share {
            return None;
        }
        account.waiting[which as usize].insert(ticket, granted);
        state.next_ticket += 1;
        state.enter_round(id, which);
        state.give_turns(self.bound);
        Some(Waiting { of: self, account: id, which, ticket, taken: false })
    }

    fn give_back(&self, id: &AccountId) {
        let mut state = self.lock();
        state.free += 1;
        if let Some(account) = state.accounts.get_mut(id) {
            account.running -= 1;
        }
        state.enter_round(id, Try::First);
        state.enter_round(id, Try::Repetition);
        state.give_turns(self.bound);
        state.forget_if_idle(id);
    }
}

impl State {
    /// At the end of the round, unless it is there already or has nothing to do there.
    fn enter_round(&mut self, id: &AccountId, which: Try) {
        let Some(account) = self.accounts.get_mut(id) else { return };
        if !account.in_round[which as usize] && !account.waiting[which as usize].is_empty() {
            account.in_round[which as usize] = true;
            self.rounds[which as usize].push_back(id.clone());
        }
    }

    fn give_turns(&mut self, bound: Bound) {
        while self.free > 0 {
            let order = if (self.given + 1).is_multiple_of(REPETITION_EACH) {
                [Try::Repetition, Try::First]
            } else {
                [Try::First, Try::Repetition]
            };
            if !order.into_iter().any(|which| self.give_one(which, bound)) {
                return;
            }
            self.free -= 1;
            self.given += 1;
        }
    }

    /// Gives a turn to the next account of a round that may have one; whether there was such.
    fn give_one(&mut self, which: Try, bound: Bound) -> bool {
        let most = if self.free > bound.kept { bound.share } else { 1 };
        let mut at = 0;
        while let Some(id) = self.rounds[which as usize].get(at) {
            let Some(account) = self.accounts.get_mut(id) else {
                self.rounds[which as usize].remove(at);
                continue;
            };
            if account.running >= most && !account.waiting[which as usize].is_empty() {
                at += 1;
                continue;
            }
            account.in_round[which as usize] = false;
            let next = account.waiting[which as usize].pop_first();
            account.running += usize::from(next.is_some());
            let Some(id) = self.rounds[which as usize].remove(at) else { return false };
            let Some((_, granted)) = next else {
                // All that waited have given up.
                self.forget_if_idle(&id);
                continue;
            };
            // Whoever does not wait any more gives the turn back.
            let _ = granted.send(());
            self.enter_round(&id, which);
            return true;
        }
        false
    }

    fn forget_if_idle(&mut self, id: &AccountId) {
        if self.accounts.get(id).is_some_and(Account::is_idle) {
            self.accounts.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
