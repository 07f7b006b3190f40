//! One statement: its text, its parameters, and how it is run.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr};

use super::error::StorageError;

/// Declares statements: each a constant whose text begins with its name as a comment (so that the database's own
/// statistics name it), and all of them in `ALL`, which a test prepares on both databases.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $($text:expr),+;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = concat!("-- ", stringify!($name), "\n", $($text),+);)*
        /// Every fixed statement of this file.
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name),)*];
    };
}
pub(super) use statements;

/// A statement's text: fixed, or written by this room from counts alone.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Fixed(&'static str),
    Counted(String),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Counted(text) => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Counted(text)
    }
}

/// A value bound to `$1`, `$2`, …: the types that both databases share.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    Integer(i64),
    IntegerOption(Option<i64>),
    Octets(Vec<u8>),
    Text(String),
    TextOption(Option<String>),
}

macro_rules! parameter_from {
    ($($type:ty => |$value:ident| $parameter:expr;)*) => {
        $(impl From<$type> for Parameter { fn from($value: $type) -> Self { $parameter } })*
    };
}

parameter_from! {
    i64 => |value| Self::Integer(value);
    Option<i64> => |value| Self::IntegerOption(value);
    crate::acme::time::Timestamp => |value| Self::Integer(value.micros());
    Option<crate::acme::time::Timestamp> => |value| Self::IntegerOption(value.map(|at| at.micros()));
    Vec<u8> => |value| Self::Octets(value);
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    &String => |value| Self::Text(value.clone());
    Option<String> => |value| Self::TextOption(value);
    &crate::acme::id::AccountId => |value| Self::Text(value.to_string());
    &crate::acme::id::AuthorizationId => |value| Self::Text(value.to_string());
    &crate::acme::id::ExternalAccountKid => |value| Self::Text(value.to_string());
    &crate::acme::id::OrderId => |value| Self::Text(value.to_string());
    &crate::acme::id::ReplicaId => |value| Self::Text(value.to_string());
    &crate::acme::id::LeaseToken => |value| Self::Text(value.to_string());
    &crate::acme::certificate::Serial => |value| Self::Text(value.to_string());
}

/// A list of parameters of different types.
macro_rules! parameters {
    ($($value:expr),* $(,)?) => { vec![$($crate::storage::statement::Parameter::from($value)),*] };
}
pub(super) use parameters;

/// Runs a statement and answers its rows.
pub(super) async fn run(
    connection: &mut AnyConnection,
    text: Text,
    parameters: Vec<Parameter>,
) -> Result<Vec<AnyRow>, StorageError> {
    let text = match text {
        Text::Fixed(text) => text.into_sql_str(),
        // Written from counts alone, see the constructors of such texts: nothing of a request is in it.
        Text::Counted(text) => AssertSqlSafe(text).into_sql_str(),
    };
    let mut query = sqlx::query(text);
    for parameter in parameters {
        query = match parameter {
            Parameter::Integer(value) => query.bind(value),
            Parameter::IntegerOption(value) => query.bind(value),
            Parameter::Octets(value) => query.bind(value),
            Parameter::Text(value) => query.bind(value),
            Parameter::TextOption(value) => query.bind(value),
        };
    }
    let started = std::time::Instant::now();
    let outcome = query.fetch_all(connection).await.map_err(StorageError::from);
    metrics::histogram!("chancery_database_seconds").record(started.elapsed());
    match &outcome {
        Ok(_) | Err(StorageError::UniqueViolation) => {}
        Err(StorageError::Unavailable(_)) => {
            metrics::counter!("chancery_database_errors_total", "kind" => "unavailable").increment(1);
        }
        Err(_) => metrics::counter!("chancery_database_errors_total", "kind" => "refused").increment(1),
    }
    outcome
}
