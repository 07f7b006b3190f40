//! The one integration binary.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod admission;
mod support;
