//! Payloads of signed requests: reading one never panics.
//! `src/jose/corpus.rs` does the same in the ordinary test run.

#![no_main]

use chancery::acme::message::{
    AccountUpdate, AuthorizationUpdate, Finalize, KeyChange, NewAccount, NewAuthorization, NewOrder,
    RevokeCertificate,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = NewAccount::parse(data);
    let _ = AccountUpdate::parse(data);
    let _ = NewOrder::parse(data);
    let _ = NewAuthorization::parse(data);
    let _ = AuthorizationUpdate::parse(data);
    let _ = Finalize::parse(data);
    let _ = RevokeCertificate::parse(data);
    let _ = KeyChange::parse(data);
});
