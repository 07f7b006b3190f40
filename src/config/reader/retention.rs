//! How long what is over is kept.

use super::Reader;
use crate::worker::Retention;

impl Reader {
    pub(super) fn retention(&self) -> Retention {
        let retention = Retention {
            orders: self.span("retention.orders"),
            authorizations: self.span("retention.authorizations"),
            certificates: self.span("retention.certificates"),
            audit: self.span("retention.audit"),
        };
        // RFC 5280 §3.3: an entry stays until it has been on a list that was made after the certificate's end, and lists
        // are made of what is kept.
        if retention.certificates < self.span("crl.lifetime") {
            self.refuse(
                &["retention.certificates", "crl.lifetime"],
                "retention.certificates is shorter than crl.lifetime: revoked certificates would be deleted before \
                 their last revocation list is made (RFC 5280 §3.3); keep certificates at least as long as a list is valid",
            );
        }
        retention
    }
}
