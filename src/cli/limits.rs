//! `chancery limits`: what an operator sees and changes of rate limits.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Configured;
use crate::acme::id::AccountId;
use crate::admission::{Buckets, MAX_CAPACITY, RedisBuckets, RedisConfig};
use crate::config::Config;
use crate::limits::{Limit, Subject, bucket, key};
use crate::server::{self, StartError};
use crate::service;
use crate::storage::{LimitOverride, LimitUse};

/// How long the command waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);

/// `chancery limits`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum LimitsCommand {
    /// Show what was used of every limit that counts by this key.
    ///
    /// A key is an account's id or URL, ACCOUNT/IDENTIFIER, a client's address, a challenge's URL, or identifiers with
    /// commas between them.
    Show(Keyed),
    /// Forget what was used of every limit that counts by this key
    Reset(Keyed),
    /// Limits of single keys.
    #[command(subcommand)]
    Override(OverrideCommand),
}

/// A key of limits.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// What the limits count by
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery limits override`. Every replica follows within seconds.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OverrideCommand {
    /// Give a key a capacity of its own; 0 is no limit
    Set(OverrideSet),
    /// List all
    List(Configured),
    /// Go back to the configured capacity
    Remove(OverrideRemove),
}

/// `chancery limits override set`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct OverrideSet {
    /// The limit
    #[arg(value_name = "LIMIT", value_parser = limit)]
    pub limit: Limit,
    /// What it counts by
    #[arg(value_name = "KEY")]
    pub key: String,
    /// How much it allows
    #[arg(value_name = "CAPACITY", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_CAPACITY)))]
    pub capacity: u32,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery limits override remove`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct OverrideRemove {
    /// The limit
    #[arg(value_name = "LIMIT", value_parser = limit)]
    pub limit: Limit,
    /// What it counts by
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

fn limit(name: &str) -> Result<Limit, String> {
    let names = || Limit::ALL.map(Limit::name).join(", ");
    Limit::parse(name).ok_or_else(|| format!("the limits are {}", names()))
}

impl LimitsCommand {
    /// Where the configuration is.
    pub const fn configured(&self) -> &Configured {
        match self {
            Self::Show(keyed) | Self::Reset(keyed) => &keyed.configured,
            Self::Override(OverrideCommand::Set(set)) => &set.configured,
            Self::Override(OverrideCommand::List(configured)) => configured,
            Self::Override(OverrideCommand::Remove(remove)) => &remove.configured,
        }
    }
}

/// Does what was asked for; answers what is to be printed.
pub async fn run(config: &Config, command: &LimitsCommand) -> Result<String, StartError> {
    match command {
        LimitsCommand::Show(keyed) => show(config, &keyed.key).await,
        LimitsCommand::Reset(keyed) => reset(config, &keyed.key).await,
        LimitsCommand::Override(OverrideCommand::List(_)) => {
            let mut text = String::new();
            for each in server::open_store_beside(config).await?.limit_overrides().await? {
                writeln!(text, "{} {} {}", each.limit, each.key, each.capacity)?;
            }
            Ok(text)
        }
        LimitsCommand::Override(OverrideCommand::Set(set)) => {
            let key = key_of(set.limit, &set.key)?;
            let new = LimitOverride {
                limit: set.limit.name().to_owned(),
                key: key.clone(),
                capacity: set.capacity,
            };
            let store = server::open_store_beside(config).await?;
            store.set_limit_override(&new, store.now().await?).await?;
            Ok(format!("{} {key} {}\n", new.limit, new.capacity))
        }
        LimitsCommand::Override(OverrideCommand::Remove(remove)) => {
            let key = key_of(remove.limit, &remove.key)?;
            let store = server::open_store_beside(config).await?;
            if store.remove_limit_override(remove.limit.name(), &key).await? {
                return Ok(String::new());
            }
            Err(format!("{key} has no override of {}", remove.limit.name()).into())
        }
    }
}

fn key_of(limit: Limit, text: &str) -> Result<String, StartError> {
    let expected = || {
        let kind = match limit.subject() {
            Subject::Account => "an account's id or URL",
            Subject::AccountAndIdentifier => "ACCOUNT/IDENTIFIER, such as 0198…/a.example.com",
            Subject::Address => "an IP address, or an IPv6 network of /64 or /48",
            Subject::Challenge => "a challenge's URL",
            Subject::IdentifierSet => "identifiers with commas between them",
        };
        format!("{text:?} is no key of {}, which counts by {kind}", limit.name())
    };
    Ok(key::parse(limit.subject(), text).ok_or_else(expected)?)
}

/// The limits that `text` is a key of, each with the key in its one form.
fn matching(text: &str) -> Result<Vec<(Limit, String)>, StartError> {
    let read = |limit: Limit| Some((limit, key::parse(limit.subject(), text)?));
    let found: Vec<_> = Limit::ALL.into_iter().filter_map(read).collect();
    if found.is_empty() {
        Err(format!("{text:?} is no key of any limit; see --help").into())
    } else {
        Ok(found)
    }
}

async fn buckets(config: &Config) -> Result<RedisBuckets, StartError> {
    let Some(url) = &config.redis_url else {
        return Err("without redis.url the server counts in its own memory: a restart forgets it all".into());
    };
    Ok(RedisBuckets::alone(RedisConfig::new(url.expose()), PATIENCE).await?)
}

async fn show(config: &Config, text: &str) -> Result<String, StartError> {
    let found = matching(text)?;
    let store = server::open_store_beside(config).await?;
    let (overrides, now) = (store.limit_overrides().await?, store.now().await?);
    let buckets = buckets(config).await?;
    let mut shown = String::new();
    for (limit, key) in found {
        let of_key = |each: &&LimitOverride| each.limit == limit.name() && each.key == key;
        let own = overrides.iter().find(of_key).map(|each| each.capacity);
        let capacity = own.unwrap_or_else(|| config.limits.capacities.of(limit, &key));
        let (used, ends) = if limit.period().is_some() {
            let levels = buckets.show(&[bucket(limit, &key)]).await?;
            let level = levels.first().copied().unwrap_or_default();
            (level.taken.to_string(), (level.taken > 0).then_some(level.full_in))
        } else {
            let account = AccountId::parse(&key).ok_or("not an account")?;
            let since = now.minus(config.untouched_after);
            let (active, first) = service::limits::active_orders(&store, &account, now, since).await?;
            (active.to_string(), first.map(|end| end.since(now)))
        };
        let of = if capacity == 0 { "no limit".to_owned() } else { format!("of {capacity}") };
        write!(shown, "{:<22} {key}: {used} used, {of}", limit.name())?;
        if own.is_some() {
            shown += " (override)";
        }
        match ends.map(|left| left.as_secs_f64().ceil()) {
            Some(seconds) if limit.period().is_some() => write!(shown, ", all free again in {seconds} s")?,
            Some(seconds) => write!(shown, ", the first ends in {seconds} s")?,
            None => {}
        }
        shown.push('\n');
    }
    Ok(shown)
}

async fn reset(config: &Config, text: &str) -> Result<String, StartError> {
    let found: Vec<_> = matching(text)?.into_iter().filter(|(limit, _)| limit.period().is_some()).collect();
    let store = server::open_store_beside(config).await?;
    let buckets = buckets(config).await?;
    let (mut names, mut uses) = (Vec::new(), Vec::new());
    for (limit, key) in &found {
        let name = bucket(*limit, key);
        let levels = buckets.show(std::slice::from_ref(&name)).await?;
        let used = levels.first().map_or(0, |level| level.taken);
        if used > 0 {
            names.push(name);
            uses.push(LimitUse { limit: limit.name().to_owned(), key: key.clone(), used });
        }
    }
    store.note_limit_resets(&uses).await?;
    buckets.reset(&names).await?;
    let mut told = String::new();
    for (limit, key) in found {
        writeln!(told, "{:<22} {key}: reset", limit.name())?;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn overrides_are_understood_and_bounded() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command);
        let Ok(Command::Limits(LimitsCommand::Override(OverrideCommand::Set(set)))) =
            parse("chancery limits override set new-orders 0198 7 --config c.toml")
        else {
            panic!("not an override");
        };
        assert_eq!((set.limit, set.key.as_str(), set.capacity), (Limit::NewOrders, "0198", 7));
        assert_eq!(set.configured.config, Some("c.toml".into()));
        for line in
            ["override set orders k 1", "override set new-orders k 1000001", "override set new-orders k -1"]
        {
            assert!(parse(&format!("chancery limits {line}")).is_err(), "{line}");
        }
        assert!(parse("chancery limits show 192.0.2.1").is_ok());
    }

    #[test]
    fn a_key_finds_its_limits() {
        let account = AccountId::new();
        let names = |text: &str| -> Vec<_> {
            matching(text).unwrap().iter().map(|(limit, _)| limit.name()).collect()
        };
        assert_eq!(
            names(&format!("https://x/account/{account}")),
            [
                "account-updates",
                "active-orders",
                "deactivations",
                "key-changes",
                "new-orders",
                "revocations",
                "validations"
            ]
        );
        assert_eq!(names("2001:db8::1"), ["duplicate-certificates", "new-accounts", "refused-accounts"]);
        assert_eq!(names("2001:db8::/48"), ["new-accounts", "refused-accounts"]);
        assert_eq!(names("a.test,b.test"), ["duplicate-certificates"]);
        assert_eq!(names(&format!("{account}/a.test")), ["failed-validations"]);
        assert!(matching("?").is_err());
        assert!(key_of(Limit::NewAccounts, "x").unwrap_err().to_string().contains("an IP address"));
    }
}
