//! Floor 1: what peers make this process hold, counted in one place: in all, and by the client address that pays for it.
//!
//! A peer costs memory before it has said who it is: a connection, the head of a request, a body that does not come, an
//! answer that is not taken. Each of these is taken from the [`Ledger`] and given back when it is over, and nobody takes
//! more than a share of it.

pub mod budget;
mod ledger;
mod overload;

pub use ledger::{Bound, Bounds, Held, Ledger, Over, Resource};
