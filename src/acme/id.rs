//! Names of stored resources: 128-bit, time-ordered (so indexes grow at one end), written as 32 hexadecimal digits.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// A new name that nothing else has.
            #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7().simple().to_string())
            }

            /// Reads a name from a URL or a row; `None` if it is not of our form.
            pub fn parse(text: &str) -> Option<Self> {
                (text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                    .then(|| Self(text.to_owned()))
            }

            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Names an account (RFC 8555 §7.1.2).
    AccountId;
    /// Names an order (RFC 8555 §7.1.3).
    OrderId;
    /// Names an authorization (RFC 8555 §7.1.4).
    AuthorizationId;
    /// Proves who holds a lease on a job (design I-3); never shown to a client.
    LeaseToken;
    /// Names a replica for as long as its process runs (design I-12).
    ReplicaId;
}

impl AccountId {
    /// Stands where an account stands in the record of a certificate that nobody ordered; no account has this name.
    pub fn nobody() -> Self {
        Self("0".repeat(32))
    }
}

/// Names a key that binds external accounts (RFC 8555 §7.3.4): one of ours, or one that its operator brought along.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalAccountKid(String);

impl ExternalAccountKid {
    /// How many characters a name may have.
    pub const LONGEST: usize = 256;

    /// A new name that nothing else has.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Reads a name from a binding, a command line or a row: an ASCII string (RFC 8555 §7.3.4) of 1 to
    /// [`Self::LONGEST`] characters, none of them a control character: those do not survive a terminal, and Postgres holds
    /// no NUL. `None` if it is not of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExternalAccountKid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_form_is_read() {
        let id = OrderId::new();
        assert_eq!(OrderId::parse(id.as_str()), Some(id));
        for wrong in ["", "x", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcdef0"] {
            assert_eq!(OrderId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn external_account_keys_may_have_names_of_others() {
        let (own, long) = (ExternalAccountKid::new(), "x".repeat(256));
        let printable: String = (' '..='~').collect();
        for text in
            [own.as_str(), "kid-1", "txra:agb:HZNf8sWc3Hn5dxcSY2pl", "-a", "a/b+c==", &printable, &long]
        {
            assert_eq!(ExternalAccountKid::parse(text).expect("a name").as_str(), text);
        }
        for wrong in ["", "é", "a\n", "\0", "a\x7f", "\u{1b}[31m", &"x".repeat(257)] {
            assert_eq!(ExternalAccountKid::parse(wrong), None, "{wrong}");
        }
    }
}
