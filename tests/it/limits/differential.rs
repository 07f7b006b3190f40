//! The scripts and their Rust twin agree, call by call, on random sequences. Redis is given the twin's time in place of its
//! own; all else of the scripts is as it runs.

use std::sync::Arc;
use std::time::Duration;

use chancery::acme::time::{Clock, ManualClock, Timestamp};
use chancery::admission::{Buckets, Charge, MemoryBuckets, Rate, Taken};
use redis::aio::MultiplexedConnection;

use crate::support::redis::Redis;

/// A script with the time in its last two arguments, and whose keys outlive the sequence.
fn with_time(text: &str) -> redis::Script {
    let changed = text
        .replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
        .replace("math.ceil(debts[i] / 1000)", "math.ceil(debts[i] / 1000) + 3600000")
        .replace("math.ceil(debt / 1000)", "math.ceil(debt / 1000) + 3600000");
    assert!(!changed.contains("'TIME'"));
    redis::Script::new(&changed)
}

struct Scripts {
    take: redis::Script,
    refund: redis::Script,
    show: redis::Script,
    connection: MultiplexedConnection,
}

impl Scripts {
    async fn call<T: redis::FromRedisValue>(
        &mut self,
        which: fn(&Self) -> &redis::Script,
        keys: &[String],
        arguments: &[i64],
        now: Timestamp,
    ) -> T {
        let mut connection = self.connection.clone();
        let mut call = which(self).prepare_invoke();
        for key in keys {
            call.key(format!("{{limits}}:{key}"));
        }
        for argument in arguments {
            call.arg(*argument);
        }
        call.arg(now.seconds()).arg(now.micros() % 1_000_000);
        call.invoke_async(&mut connection).await.unwrap()
    }

    async fn take(&mut self, charges: &[Charge], now: Timestamp) -> Taken {
        let arguments: Vec<i64> = charges
            .iter()
            .flat_map(|c| [c.rate.interval, c.rate.capacity.into(), c.cost.into(), i64::from(!c.look)])
            .collect();
        let (refused, wait): (usize, u64) = self.call(|s| &s.take, &keys(charges), &arguments, now).await;
        match refused {
            0 => Taken::All,
            charge => Taken::Refused { charge: charge - 1, wait: Duration::from_micros(wait) },
        }
    }
}

fn keys(charges: &[Charge]) -> Vec<String> {
    charges.iter().map(|charge| charge.key.clone()).collect()
}

/// xorshift64: the same sequence for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn charges(&mut self) -> Vec<Charge> {
        let (first, count) = (self.below(4), 1 + self.below(3));
        let one = |index: u64, random: &mut Self| {
            let capacity = [1, 2, 3, 7, 100, 999_983][usize::try_from(random.below(6)).unwrap()];
            let period = [1, 60, 3_600, 86_400][usize::try_from(random.below(4)).unwrap()];
            Charge {
                key: format!("k{}", (first + index) % 4),
                rate: Rate::per(capacity, Duration::from_secs(period)),
                cost: 1 + u32::try_from(random.below(3)).unwrap(),
                look: random.below(4) == 0,
            }
        };
        (0..count).map(|index| one(index, self)).collect()
    }

    fn pause(&mut self) -> Duration {
        let micros = match self.below(5) {
            0 => 0,
            1 => self.below(3),
            2 => self.below(1_000_000),
            3 => self.below(100_000_000),
            _ => self.below(10_000_000_000),
        };
        Duration::from_micros(micros)
    }
}

#[tokio::test]
async fn i_09_the_scripts_and_the_twin_agree_on_random_sequences() {
    let server = Redis::start();
    let mut scripts = Scripts {
        take: with_time(include_str!("../../../lua/bucket_take.lua")),
        refund: with_time(include_str!("../../../lua/bucket_refund.lua")),
        show: with_time(include_str!("../../../lua/bucket_show.lua")),
        connection: server.connection().await,
    };
    let all: Vec<String> = (0..4).map(|key| format!("k{key}")).collect();
    let (mut passed, mut refusals) = (0, 0);
    for seed in 1..=60_u64 {
        server.command::<()>(&["FLUSHALL"]).await;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_800_000_000_123_456)));
        let twin = MemoryBuckets::new(clock.clone());
        for step in 0..80 {
            clock.advance(random.pause());
            let (now, charges) = (clock.now(), random.charges());
            match random.below(8) {
                0 => {
                    let given: Vec<Charge> = charges.into_iter().filter(|charge| !charge.look).collect();
                    let arguments: Vec<i64> = given
                        .iter()
                        .flat_map(|c| [c.rate.interval, c.rate.capacity.into(), c.cost.into()])
                        .collect();
                    scripts.call::<i64>(|s| &s.refund, &keys(&given), &arguments, now).await;
                    twin.refund(&given).await.unwrap();
                }
                _ => {
                    let taken = twin.take(&charges).await.unwrap();
                    let by_script = scripts.take(&charges, now).await;
                    assert_eq!(taken, by_script, "seed {seed}, step {step}: {charges:?}");
                    if taken == Taken::All { passed += 1 } else { refusals += 1 }
                }
            }
            let told: Vec<i64> = scripts.call(|s| &s.show, &all, &[], now).await;
            let levels = twin.show(&all).await.unwrap();
            for (key, (level, by_script)) in levels.iter().zip(told.chunks_exact(2)).enumerate() {
                let until_full = i64::try_from(level.full_in.as_micros()).unwrap();
                assert_eq!(until_full, by_script[0], "seed {seed}, step {step}, k{key}");
            }
        }
    }
    assert!(passed > 500 && refusals > 500, "both happen: {passed} {refusals}");
}
