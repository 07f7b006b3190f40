//! The one integration binary.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, dead_code, reason = "the kit offers more than each version of the tests asks for")]

mod floors;
mod kit;
mod support;
