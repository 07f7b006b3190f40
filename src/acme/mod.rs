//! Floor 0: the values of RFC 8555 and its companions. No I/O, no async, no SQL, no HTTP framework.
//!
//! Everything above speaks in these types: what a client may name (identifiers), what it owns (accounts, orders,
//! authorizations, challenges, certificates), what it is told when something is wrong (problems), and when (time).

pub mod account;
pub mod audit;
pub mod authorization;
pub mod certificate;
pub mod challenge;
pub mod ed25519;
pub mod external_account;
pub mod id;
pub mod identifier;
pub mod message;
pub mod order;
pub mod problem;
pub mod profile;
pub mod time;
