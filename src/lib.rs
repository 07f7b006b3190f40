//! Chancery: an ACME server (RFC 8555) for fleets.
//!
//! The modules in floor order; a floor imports only floors below it, never a neighbour on its own
//! (`tests/it/floors.rs` holds this). ARCHITECTURE.md is the map.

pub mod acme;

pub mod admission;
pub mod jose;
pub mod network;
pub mod peers;
pub mod pki;
pub mod storage;

pub mod limits;
pub mod policy;
pub mod validation;

pub mod service;

pub mod http;
pub mod worker;

pub mod cli;
pub mod config;
pub mod listener;
pub mod server;
pub mod status;
pub mod telemetry;
