#![no_main]
//! Any bytes as a name server's answer, through the reading that the resolver uses, to what CAA makes of it.

use chancery::acme::identifier::Identifier;
use chancery::network::answer;
use chancery::policy::caa::{CaaRequest, evaluate};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(records) = answer::caa_of_wire(data) else { return };
    let identifier = Identifier::Dns("a.test".to_owned());
    let issuer_domains = ["ca.test".to_owned()];
    for wildcard in [false, true] {
        let request = CaaRequest {
            identifier: &identifier,
            wildcard,
            method: None,
            account_url: "https://acme.test/account/1",
            issuer_domains: &issuer_domains,
        };
        let restricted = records.iter().any(|record| record.tag.eq_ignore_ascii_case("issue"));
        if restricted && evaluate(&records, &request).is_ok() {
            let named =
                |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase().contains("ca.test");
            assert!(records.iter().any(|record| named(&record.value)));
        }
    }
});
