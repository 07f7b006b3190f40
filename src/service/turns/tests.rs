//! Fair shares, without any clock: who gets the next turn.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::*;

type Waits<'a> = Pin<Box<dyn Future<Output = Option<Turn>> + 'a>>;

/// Jobs that ask for turns, and those that have them.
struct Jobs<'a> {
    waiting: Vec<(&'static str, Waits<'a>)>,
    running: Vec<(&'static str, Turn)>,
}

impl<'a> Jobs<'a> {
    fn new() -> Self {
        Self { waiting: Vec::new(), running: Vec::new() }
    }

    fn ask(&mut self, turns: &'a Turns, name: &'static str, account: &'a AccountId, which: Try) {
        self.waiting.push((name, Box::pin(turns.turn(account, which))));
        self.look();
    }

    fn look(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut left = Vec::new();
        for (name, mut turn) in std::mem::take(&mut self.waiting) {
            match turn.as_mut().poll(&mut context) {
                Poll::Ready(turn) => self.running.extend(turn.map(|turn| (name, turn))),
                Poll::Pending => left.push((name, turn)),
            }
        }
        self.waiting = left;
    }

    /// The oldest turn ends; who has come to run since.
    fn end_one(&mut self) -> Vec<&'static str> {
        let before: Vec<_> = self.running.iter().map(|(name, _)| *name).collect();
        drop(self.running.remove(0));
        self.look();
        self.running[before.len() - 1..].iter().map(|(name, _)| *name).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.running.iter().map(|(name, _)| *name).collect()
    }
}

#[test]
fn accounts_take_turns_however_many_jobs_each_has() {
    let turns = Turns::new(1, 1);
    let [a, b, c] = [AccountId::new(), AccountId::new(), AccountId::new()];
    let mut jobs = Jobs::new();
    for _ in 0..5 {
        jobs.ask(&turns, "a", &a, Try::First);
    }
    jobs.ask(&turns, "b", &b, Try::First);
    jobs.ask(&turns, "b", &b, Try::First);
    jobs.ask(&turns, "c", &c, Try::First);
    assert_eq!(jobs.names(), ["a"]);
    let order: Vec<_> = (0..7).flat_map(|_| jobs.end_one()).collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "a", "a"]);
}

#[test]
fn the_last_places_are_for_accounts_that_have_nothing_at_work() {
    let turns = Turns::new(8, 8);
    let accounts: Vec<_> = std::iter::repeat_with(AccountId::new).take(4).collect();
    let mut jobs = Jobs::new();
    for _ in 0..8 {
        jobs.ask(&turns, "first", &accounts[0], Try::First);
    }
    assert_eq!((jobs.names().len(), turns.free()), (6, 2));
    // Whoever comes finds a place, one.
    for account in &accounts[1..3] {
        jobs.ask(&turns, "next", account, Try::First);
        jobs.ask(&turns, "next", account, Try::First);
    }
    assert_eq!((jobs.names()[6..].to_vec(), turns.free()), (vec!["next", "next"], 0));
    // With none left, the next turn is that of an account without one.
    jobs.ask(&turns, "last", &accounts[3], Try::First);
    assert_eq!(jobs.end_one(), ["last"]);
    // Those who have one wait until more are free than are kept.
    assert_eq!([jobs.end_one(), jobs.end_one()], [[""; 0], [""; 0]]);
    assert_eq!((jobs.end_one(), turns.free()), (vec!["first"], 2));
}

#[test]
fn nobody_has_more_than_its_share_though_places_are_free() {
    let turns = Turns::new(8, 2);
    let [a, b] = [AccountId::new(), AccountId::new()];
    let mut jobs = Jobs::new();
    for _ in 0..5 {
        jobs.ask(&turns, "a", &a, Try::First);
    }
    assert_eq!((jobs.names(), turns.free()), (vec!["a", "a"], 6));
    assert_eq!((turns.room(&a), turns.room(&b)), (0, 4));
    jobs.ask(&turns, "b", &b, Try::First);
    assert_eq!(jobs.names(), ["a", "a", "b"]);
    assert_eq!(jobs.end_one(), ["a"]);
}

#[test]
fn repetitions_let_first_tries_pass_and_are_not_put_off_for_ever() {
    let turns = Turns::new(1, 1);
    let [a, b] = [AccountId::new(), AccountId::new()];
    let mut jobs = Jobs::new();
    jobs.ask(&turns, "running", &a, Try::First);
    for _ in 0..3 {
        jobs.ask(&turns, "again", &a, Try::Repetition);
    }
    for _ in 0..6 {
        jobs.ask(&turns, "first", &b, Try::First);
    }
    let order: Vec<_> = (0..9).flat_map(|_| jobs.end_one()).collect();
    assert_eq!(order, ["first", "first", "again", "first", "first", "first", "again", "first", "again"]);
}

#[test]
fn too_many_that_wait_are_sent_away_and_repetitions_never_are() {
    let turns = Turns::new(1, 1);
    let [a, b] = [AccountId::new(), AccountId::new()];
    let mut jobs = Jobs::new();
    for _ in 0..=MOST_WAITING {
        jobs.ask(&turns, "a", &a, Try::First);
    }
    assert_eq!((jobs.running.len(), jobs.waiting.len()), (1, MOST_WAITING));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(pin!(turns.turn(&a, Try::First)).poll(&mut context), Poll::Ready(None)));
    assert!(pin!(turns.turn(&a, Try::Repetition)).poll(&mut context).is_pending());
    assert!(pin!(turns.turn(&b, Try::First)).poll(&mut context).is_pending(), "another account waits");
}

#[test]
fn who_gives_up_leaves_nothing_behind() {
    let turns = Turns::new(1, 1);
    let [a, b] = [AccountId::new(), AccountId::new()];
    let mut jobs = Jobs::new();
    jobs.ask(&turns, "a", &a, Try::First);
    jobs.ask(&turns, "b", &b, Try::First);
    jobs.ask(&turns, "b", &b, Try::First);
    jobs.waiting.clear();
    drop(jobs);
    assert_eq!(turns.free(), 1);
    // Given a turn, and gone before it knew.
    let mut jobs = Jobs::new();
    jobs.ask(&turns, "a", &a, Try::First);
    jobs.ask(&turns, "b", &b, Try::First);
    jobs.running.clear();
    jobs.waiting.clear();
    assert_eq!(turns.free(), 1);
    // What is left of a round goes with the next turn.
    let mut jobs = Jobs::new();
    jobs.ask(&turns, "a", &a, Try::First);
    drop(jobs);
    assert!(turns.0.lock().accounts.is_empty(), "{turns:?}");
}
