//! Who signs: the issuing certificate that is named, or that of the data folder.

use std::path::Path;

use super::{Reader, mismatch};
use crate::config::kind::Value;
use crate::config::{Ca, IssuerFiles};
use crate::pki::authority;

impl Reader {
    pub(super) fn ca(&self, external_url: &str, alone: bool) -> Ca {
        let files = |name: &'static str| match self.value(name) {
            None => Vec::new(),
            Some(Value::Files(files)) => files.clone(),
            other => mismatch(name, other),
        };
        let chains = files("ca.chain");
        let inputs = ["ca.cert", "ca.key", "ca.chain"];
        let issuer = match (self.path("ca.cert"), self.path("ca.key")) {
            (Some(cert), Some(key)) => Some(IssuerFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.refuse(&inputs, "ca.cert is set and ca.key is not: set both");
                None
            }
            (None, Some(_)) => {
                self.refuse(&inputs, "ca.key is set and ca.cert is not: set both");
                None
            }
        };
        if issuer.is_none() && !chains.is_empty() {
            self.refuse(
                &inputs,
                "ca.chain follows the certificate that ca.cert names: set ca.cert and ca.key too",
            );
        }
        let (listen, public_url) = self.public(external_url, alone);
        Ca {
            issuer,
            chains,
            listen,
            public_url,
            include_root: self.flag("ca.include_root"),
            weak_keys: files("ca.weak_keys"),
            previous: files("ca.previous"),
        }
    }

    /// The authority of a fleet, which all replicas share and none makes: that of ca.cert, else what `chancery ca init` has put
    /// into the data folder (design §6).
    pub(super) fn shared_authority(&self, mut ca: Ca, folder: &Path) -> Ca {
        if ca.issuer.is_some() {
            return ca;
        }
        let missing = authority::missing(folder);
        if missing.is_empty() {
            let [cert, key, root] =
                [authority::ISSUING, authority::ISSUING_KEY, authority::ROOT].map(|file| folder.join(file));
            ca.issuer = Some(IssuerFiles { cert, key });
            ca.chains = vec![root];
            return ca;
        }
        let shown = folder.display();
        self.refuse(
            &["database.url", "data_dir", "ca.cert", "ca.key", "ca.chain", "replicas"],
            format!(
                "database.url is Postgres, ca.cert and ca.key are not set, and {shown} lacks {}: each replica would make a \
                 certificate authority of its own. Run `chancery ca init --data-dir {shown}` once and give the same \
                 issuing.pem, issuing.key and root.pem to every replica, in its data_dir or elsewhere by ca.cert, ca.key and \
                 ca.chain; or set replicas = 1 if this is the only one",
                missing.join(", ")
            ),
        );
        ca
    }
}
