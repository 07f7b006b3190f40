//! CSRs are octets of strangers: whatever they are, reading them ends, and without a panic.

#![no_main]

use chancery::acme::profile::KeyType;
use chancery::pki::csr::Csr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    if let Ok(csr) = Csr::parse(der, &KeyType::ALL) {
        assert!(!csr.public_key.is_empty());
    }
});
