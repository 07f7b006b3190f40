//! The one integration binary.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, dead_code, reason = "the kit offers more than each version of the tests asks for")]

mod accounts;
mod admission;
mod authorizations;
mod caa;
mod certificates;
mod challenges;
mod directory;
mod finalize;
mod floors;
mod gen_requests;
mod gen_responses;
mod http01;
mod jws;
mod jws_keys;
mod key_change;
mod kit;
mod nonces;
mod orders;
mod renewal;
mod revocation;
mod support;
mod sweeper;
