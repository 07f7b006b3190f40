//! The one integration binary.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "the modules of a test binary")]

mod accounts;
mod admission;
mod audit;
mod authority;
mod authorizations;
mod bounds;
mod caa;
mod cert_manager;
mod certificates;
mod challenges;
mod clients;
mod clocks;
mod compromised_keys;
mod crash;
mod deactivation;
mod deploy;
mod directory;
mod docs;
mod eab;
mod faults;
mod features;
mod finalize;
mod floors;
mod from_memory;
mod gen_requests;
mod gen_responses;
mod gen_urls;
mod http01;
mod jws;
mod jws_keys;
mod k6;
mod key_change;
mod kit;
mod limits;
mod listener_certificate;
mod migrations;
mod nonces;
mod obligations;
mod octets;
mod orders;
mod outages;
mod renewal;
mod revocation;
mod rfc;
mod rolling;
mod set_aside;
mod shared_account;
mod shares;
mod statements;
mod suites;
#[allow(dead_code, reason = "the kit offers more than the tests of one day ask for")]
mod support;
mod sweeper;
mod turned_off;
mod waiting;
