//! Which limits there are: one table, from which the settings' defaults, the messages, the metrics and the command line
//! follow. docs/limits.md explains each under its name.

use std::time::Duration;

/// What a limit counts by. [`super::key`] reads and writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An account.
    Account,
    /// An account and one identifier, without `*.`.
    AccountAndIdentifier,
    /// A client's address; for IPv6 its /64, and its /48.
    Address,
    /// A challenge.
    Challenge,
    /// A set of identifiers.
    IdentifierSet,
}

/// Which default capacities hold (`limits.preset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// For fleets: behind one account may stand a cluster.
    #[default]
    Fleet,
    /// For accounts of single machines.
    Strict,
}

impl Preset {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Strict => "strict",
        }
    }

    /// Reads the word in the configuration.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Fleet, Self::Strict].into_iter().find(|preset| preset.as_str() == text)
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $variant:ident $name:literal $setting:literal $period:expr, $fleet:literal $strict:literal,
        $subject:ident, $message:literal;)*) => {
        /// A limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Limit {
            $($(#[$doc])* $variant,)*
        }

        impl Limit {
            /// Every limit, by name.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name: in metrics, on the command line, and as the anchor in docs/limits.md.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The key of its setting in the section `limits`.
            pub const fn setting(self) -> &'static str {
                match self { $(Self::$variant => $setting,)* }
            }

            /// How long a bucket takes to refill; nothing for a limit on what there is at one time.
            pub const fn period(self) -> Option<Duration> {
                match self { $(Self::$variant => $period,)* }
            }

            /// How many uses there are unless configured otherwise.
            pub const fn default_capacity(self, preset: Preset) -> u32 {
                let (fleet, strict) = match self { $(Self::$variant => ($fleet, $strict),)* };
                match preset {
                    Preset::Fleet => fleet,
                    Preset::Strict => strict,
                }
            }

            /// What it counts by.
            pub const fn subject(self) -> Subject {
                match self { $(Self::$variant => Subject::$subject,)* }
            }

            /// What is told to who exceeds it; `{}` stands for the capacity.
            const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
}

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
const DAY: Option<Duration> = Some(Duration::from_secs(86_400));

limits! {
    /// Changes of an account's contacts.
    AccountUpdates "account-updates" "account_updates_per_hour" HOUR, 20 20, Account,
        "too many changes of contacts: an account may change them {} times per hour";
    /// Orders of an account that are pending, ready or processing (design I-10).
    ActiveOrders "active-orders" "active_orders" None, 300 5, Account,
        "too many active orders: an account may have {} that are pending, ready or processing at once, and finishing one makes room";
    /// Responses to a challenge, repeated ones too.
    ChallengeResponses "challenge-responses" "challenge_responses_per_hour" HOUR, 60 60, Challenge,
        "too many responses: a challenge may be answered {} times per hour";
    /// Authorizations that an account gives up.
    Deactivations "deactivations" "deactivations_per_hour" HOUR, 1000 1000, Account,
        "too many deactivations: an account may deactivate {} authorizations per hour";
    /// Certificates for exactly the same set of identifiers, whoever asks.
    DuplicateCertificates "duplicate-certificates" "duplicate_certificates_per_day" DAY, 30 30, IdentifierSet,
        "too many certificates for the same identifiers: {} per day are issued for one set";
    /// Validations of an identifier that failed, by account.
    FailedValidations "failed-validations" "failed_validations_per_hour" HOUR, 30 30, AccountAndIdentifier,
        "too many failed validations: an account may fail {} per hour for one identifier";
    /// Changes of an account's key.
    KeyChanges "key-changes" "key_changes_per_hour" HOUR, 5 5, Account,
        "too many key changes: an account may change its key {} times per hour";
    /// Accounts made from one address.
    NewAccounts "new-accounts" "new_accounts_per_hour" HOUR, 100 100, Address,
        "too many new accounts: {} per hour may be made from one address or network";
    /// Orders placed by an account.
    NewOrders "new-orders" "new_orders_per_hour" HOUR, 1000 100, Account,
        "too many new orders: an account may place {} per hour";
    /// Requests for a new account that were refused, by address.
    RefusedAccounts "refused-accounts" "refused_accounts_per_hour" HOUR, 300 300, Address,
        "too many requests for an account that could not be granted: {} per hour may come from one address or network";
    /// Certificates revoked by an account.
    Revocations "revocations" "revocations_per_hour" HOUR, 1000 1000, Account,
        "too many revocations: an account may revoke {} certificates per hour";
    /// Validations that an account starts, of whatever identifiers and however they end.
    Validations "validations" "validations_per_hour" HOUR, 5000 5000, Account,
        "too many validations: an account may start {} per hour";
}

impl Limit {
    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// The sentence for a request that exceeds the limit: which limit, and when to come back.
    pub(super) fn told(self, capacity: u32, seconds: u64) -> String {
        let message = self.message().replace("{}", &capacity.to_string());
        let unit = if seconds == 1 { "second" } else { "seconds" };
        format!("{message} (limit {}); try again in {seconds} {unit}", self.name())
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_together() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), index);
            assert_eq!(Limit::parse(limit.name()), Some(limit));
            assert!(limit.message().contains("{}"), "{}", limit.name());
            let unit = match limit.period().map(|period| period.as_secs()) {
                None => "",
                Some(3600) => "_per_hour",
                Some(_) => "_per_day",
            };
            assert_eq!(limit.setting(), format!("{}{unit}", limit.name().replace('-', "_")));
        }
        assert!(Limit::ALL.is_sorted_by_key(|limit| limit.name()));
    }

    #[test]
    fn lim_01_the_sentence_names_limit_and_time() {
        assert_eq!(
            Limit::NewOrders.told(100, 36),
            "too many new orders: an account may place 100 per hour (limit new-orders); try again in 36 seconds"
        );
        assert!(Limit::ActiveOrders.told(5, 1).ends_with("try again in 1 second"));
    }
}
