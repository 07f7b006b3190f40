//! What a client got, as OpenSSL and curl see it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::clients::program::{finish, openssl, require, text};
use crate::clients::site::Site;
use crate::support::chancery::Kind;
use crate::support::run::{folder, wait_until};

/// A certificate that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The serial in upper-case hexadecimal, as OpenSSL shows it.
    pub serial: String,
    crl_url: String,
    root: PathBuf,
    chain: PathBuf,
}

impl Certificate {
    /// Verifies the chain in a client's PEM file up to the site's root, for TLS servers of each of `names` (DNS names or
    /// IP addresses).
    pub fn verified(site: &Site, file: &Path, names: &[&str]) -> Self {
        let chain = folder("evidence").join("chain.pem");
        std::fs::copy(file, &chain).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (root, copy) = (text(&site.root), text(&chain));
        for name in names {
            let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &root];
            let for_it = if name.parse::<IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
            openssl(&[&verify[..], &["-untrusted", &copy, for_it, name, &copy]].concat());
        }
        let shown = openssl(&["x509", "-in", &copy, "-noout", "-serial", "-ext", "crlDistributionPoints"]);
        let after = |start: &str| {
            let line = shown.lines().find_map(|line| line.trim().strip_prefix(start));
            line.unwrap_or_else(|| panic!("no {start} in {shown}")).to_owned()
        };
        Self { serial: after("serial="), crl_url: after("URI:"), root: site.root.clone(), chain }
    }

    /// The chain, leaf first, as the client has it.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(&self.chain).expect("the copy")
    }

    /// As `verified`, and asserts that it is another one than the last, from the account of the last.
    pub fn renewed(&self, site: &Site, file: &Path, names: &[&str]) -> Self {
        let renewed = Self::verified(site, file, names);
        assert_ne!(renewed.serial, self.serial, "the file has a new certificate");
        renewed.assert_not_revoked();
        if site.kind() == Kind::Fleet {
            assert_eq!(site.accounts_with_orders(names[0]), 1, "the account was kept from run to run");
        }
        renewed
    }

    /// Asserts that the CRL that the certificate names is good and does not have the certificate.
    pub fn assert_not_revoked(&self) {
        let (list, _) = self.fetch_crl();
        let output = self.check(&list);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Asserts that the certificate gets into the CRL that it names, for `reason` as OpenSSL words it, and that
    /// OpenSSL then refuses it.
    pub fn assert_revoked(&self, reason: Option<&str>) {
        // Each replica shows its own copy of the list, and they renew it one after the other: the one that has the entry is
        // the one to look at.
        let found = std::cell::RefCell::new(None);
        wait_until("the revoked certificate is in the CRL", || {
            let (list, entries) = self.fetch_crl();
            if !entries.contains(&format!("Serial Number: {}", self.serial)) {
                std::thread::sleep(Duration::from_millis(100));
                return false;
            }
            found.replace(Some((list, entries)));
            true
        });
        let (list, entries) = found.into_inner().expect("it was found");
        let entry = entries.split("Serial Number: ").find(|entry| entry.starts_with(&self.serial));
        let entry = entry.expect("the entry");
        match reason {
            Some(reason) => assert!(entry.contains(reason), "{reason}: {entry}"),
            None => {
                assert!(!entry.contains("Reason Code"), "RFC 5280 §5.3.1: unspecified is left out: {entry}")
            }
        }
        let output = self.check(&list);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains("certificate revoked"), "{errors}");
    }

    /// Verifies the certificate with the CRL.
    fn check(&self, list: &Path) -> std::process::Output {
        let (root, chain) = (text(&self.root), text(&self.chain));
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-crl_check", "-CRLfile", &text(list), "-CAfile", &root]);
        openssl.args(["-untrusted", &chain, &chain]).output().expect("openssl starts")
    }

    /// The CRL in PEM, and its entries in words.
    fn fetch_crl(&self) -> (PathBuf, String) {
        require("curl");
        let (der, pem) = (self.chain.with_file_name("crl.der"), self.chain.with_file_name("crl.pem"));
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"]);
        finish(curl.arg(&self.root).arg("--output").arg(&der).arg(&self.crl_url));
        let (from, to) = (text(&der), text(&pem));
        openssl(&["crl", "-inform", "DER", "-in", &from, "-out", &to]);
        let entries = openssl(&["crl", "-in", &to, "-noout", "-text"]);
        (pem, entries)
    }
}
