//! Instants in microseconds, and the clock that everything else is given (design I-5: one clock for the fleet).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant, in microseconds since the Unix epoch. The unit in which both databases keep time (BIGINT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The instant `seconds` seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The same instant without its fraction of a second: what X.509 and RFC 3339 show.
    pub const fn truncated(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// This instant moved forward, stopping at the end of representable time.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back, stopping at the beginning of representable time.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The instant as the `time` crate has it (used for X.509), at whole seconds.
    pub fn to_datetime(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Reads an RFC 3339 date-time, as in `notBefore` (RFC 8555 §7.4). What is finer than a microsecond is dropped.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos().div_euclid(1000)).ok().map(Self)
    }

    /// RFC 3339 in UTC with the fraction of the second, where there is one.
    pub fn with_fraction(self) -> String {
        let whole = self.to_string();
        match self.0.rem_euclid(1_000_000) {
            0 => whole,
            micros => {
                let digits = format!("{micros:06}");
                format!("{}.{}Z", whole.trim_end_matches('Z'), digits.trim_end_matches('0'))
            }
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC at whole seconds, as every ACME object shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().format(&Rfc3339).unwrap_or_default())
    }
}

/// Where logic gets the time from. Nothing outside this file reads a clock for a decision that is stored or shown.
pub trait Clock: Send + Sync {
    /// The present, by the fleet's clock.
    fn now(&self) -> Timestamp;
}

/// The database's answer to what time it is, and when, by this machine's steady clock, it was asked and had answered. It
/// read its clock somewhere between the two.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time by the database's clock.
    pub database: Timestamp,
    /// Just before the question was sent.
    pub asked: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

/// The database's clock (design I-5), counted on by this machine's steady clock: nothing that happens to its wall clock
/// moves this one. Before the first reading, and beside SQLite, which has no other clock, it is the wall clock itself.
///
/// While the machine sleeps its steady clock stands still (Linux), so for the moment after that this one is behind. The
/// next reading mends that; being behind takes no lease and ends no order.
#[derive(Debug, Default)]
pub struct FleetClock {
    known: ArcSwapOption<Known>,
}

/// What time it was when, by the steady clock.
#[derive(Clone, Copy, Debug)]
struct Known {
    time: Timestamp,
    at: Instant,
    /// How long the answer took that this rests on: by so much at most it was wrong.
    round_trip: Duration,
}

impl Known {
    fn at(&self, instant: Instant) -> Timestamp {
        self.time.plus(instant.saturating_duration_since(self.at))
    }

    /// What is known after `reading`. The time was between what the database said and a round trip later, and is taken to
    /// be the middle; but where a quicker answer was had before, this one only moves the clock as far as it must. So an
    /// answer that took seconds, of a database or a machine that stalled, moves nothing that it does not prove wrong.
    fn after(before: Option<Self>, reading: &Reading) -> Self {
        let round_trip = reading.answered.saturating_duration_since(reading.asked);
        let (least, most) = (reading.database, reading.database.plus(round_trip));
        let middle = least.plus(round_trip / 2);
        let Some(known) = before.filter(|known| known.round_trip < round_trip) else {
            return Self { time: middle, at: reading.answered, round_trip };
        };
        let held = known.at(reading.answered);
        if (least..=most).contains(&held) {
            return known;
        }
        Self { time: held.clamp(least, most), at: reading.answered, round_trip }
    }
}

impl FleetClock {
    /// This machine's own time, uncorrected.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn machine_now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Goes by what the database said. Not to be called by two tasks at once.
    pub fn follow(&self, reading: &Reading) {
        let before = self.known.load().as_deref().copied();
        self.known.store(Some(Arc::new(Known::after(before, reading))));
    }

    /// By how many microseconds the database's clock is ahead of this machine's wall clock; 0 while it is that.
    pub fn ahead_of_machine_micros(&self) -> i64 {
        match self.known.load().as_deref() {
            Some(known) => known.at(Instant::now()).0.saturating_sub(Self::machine_now().0),
            None => 0,
        }
    }
}

impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        self.known.load().as_deref().map_or_else(Self::machine_now, |known| known.at(Instant::now()))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_with_and_without_fractions() {
        for (text, whole, exact) in [
            ("2026-11-24T05:59:22.75+01:00", "2026-11-24T04:59:22Z", "2026-11-24T04:59:22.75Z"),
            ("2026-11-24T04:59:22.000Z", "2026-11-24T04:59:22Z", "2026-11-24T04:59:22Z"),
            ("2026-11-24T04:59:22.000001999Z", "2026-11-24T04:59:22Z", "2026-11-24T04:59:22.000001Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.5Z"),
        ] {
            let at = Timestamp::parse_rfc3339(text).expect("valid");
            assert_eq!((at.to_string().as_str(), at.with_fraction().as_str()), (whole, exact));
            assert_eq!(Timestamp::parse_rfc3339(whole), Some(at.truncated()));
            assert_eq!(Timestamp::parse_rfc3339(exact), Some(at));
        }
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn since_never_goes_below_zero() {
        assert_eq!(Timestamp::from_seconds(1).since(Timestamp::from_seconds(5)), Duration::ZERO);
    }

    const LONG_AGO: i64 = 1_000_000_000;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A reading that began `begun` seconds after `start`, took `took`, and found the database at `database` after
    /// `LONG_AGO`.
    fn reading(start: Instant, begun: f64, took: f64, database: f64) -> Reading {
        let asked = start + seconds(begun);
        let database = Timestamp::from_seconds(LONG_AGO).plus(seconds(database));
        Reading { database, asked, answered: asked + seconds(took) }
    }

    /// What a clock that saw these readings shows `at` seconds after `start`, in seconds after `LONG_AGO`.
    fn shown(start: Instant, readings: &[Reading], at: f64) -> f64 {
        let known = readings.iter().fold(None, |known, each| Some(Known::after(known, each)));
        let shown =
            known.expect("a reading").at(start + seconds(at)).since(Timestamp::from_seconds(LONG_AGO));
        (shown.as_secs_f64() * 1000.0).round() / 1000.0
    }

    #[test]
    fn i_05_the_fleets_time_goes_on_by_the_steady_clock() {
        let start = Instant::now();
        let first = reading(start, 0.0, 0.01, 0.005);
        assert_eq!(shown(start, &[first], 0.01), 0.01);
        assert_eq!(shown(start, &[first], 3600.0), 3600.0);
        // The wall clock is thirty years and more from what this clock was told: it has no part in it.
        let clock = FleetClock::default();
        assert_eq!(clock.ahead_of_machine_micros(), 0);
        assert!(FleetClock::machine_now().since(clock.now()) < seconds(60.0));
        clock.follow(&first);
        assert!((0..60).contains(&(clock.now().seconds() - LONG_AGO)), "{}", clock.now());
        let behind = Duration::from_micros(clock.ahead_of_machine_micros().unsigned_abs());
        assert!(FleetClock::machine_now().minus(behind).since(clock.now()) < seconds(60.0));
    }

    #[test]
    fn i_05_an_answer_that_was_long_in_coming_moves_the_clock_no_further_than_it_must() {
        let start = Instant::now();
        let quick = reading(start, 0.0, 0.002, 0.001);
        // The database read its clock at the end of a stall, at its beginning, or in its midst.
        for read in [10.0, 12.5, 16.0] {
            let stalled = reading(start, 10.0, 6.0, read);
            assert_eq!(shown(start, &[quick, stalled], 16.0), 16.0, "{read}");
        }
        // It proves this clock wrong: the database's was set an hour on.
        let ahead = reading(start, 10.0, 6.0, 3616.0);
        assert_eq!(shown(start, &[quick, ahead], 16.0), 3616.0);
        // Or back by one.
        let back = reading(start, 4000.0, 6.0, 400.0);
        assert_eq!(shown(start, &[quick, back], 4006.0), 406.0);
        // Whatever took as long or less tells more.
        let better = reading(start, 20.0, 1.0, 3620.5);
        assert_eq!(shown(start, &[quick, ahead, better], 21.0), 3621.0);
        // Without anything better, half of a long wait is the best guess, until something better comes.
        let first = reading(start, 0.0, 4.0, 0.0);
        assert_eq!(shown(start, &[first], 4.0), 2.0);
        assert_eq!(shown(start, &[first, reading(start, 10.0, 0.002, 10.001)], 20.0), 20.0);
    }

    #[test]
    fn i_05_a_machine_that_slept_is_right_again_after_the_next_reading() {
        let start = Instant::now();
        let before = reading(start, 0.0, 0.001, 0.0005);
        // An hour of sleep, of which the steady clock counted nothing.
        let after = reading(start, 10.0, 0.003, 3610.0);
        let error = shown(start, &[before, after], 10.003) - 3610.0;
        assert!((0.0..=0.003).contains(&error), "{error}");
    }

    #[test]
    fn i_05_a_steady_clock_that_is_fast_or_slow_is_held_to_the_databases() {
        let start = Instant::now();
        for drift in [0.999, 1.001] {
            let mut readings = vec![reading(start, 0.0, 0.001, 0.0005)];
            for round in 1..=100 {
                let begun = f64::from(round) * 10.0;
                readings.push(reading(start, begun, 0.005, (begun + 0.0025) * drift));
            }
            let error = shown(start, &readings, 1000.005) - 1000.005 * drift;
            assert!(error.abs() < 0.006, "{error}");
        }
    }
}
