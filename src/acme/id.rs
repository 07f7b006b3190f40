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

/// Names a key that binds external accounts (RFC 8555 §7.3.4): one of ours, or one that its operator brought along.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalAccountKid(String);

impl ExternalAccountKid {
    /// A new name that nothing else has.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Reads a name from a binding, a command line or a row: 1 to 64 of letters, digits, `.`, `_` and `-`, which is not
    /// the first. `None` if it is not of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(letter);
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
        let (own, long) = (ExternalAccountKid::new(), "x".repeat(64));
        for text in [own.as_str(), "kid-1", "V6iRR0p3.a_b", &long] {
            assert_eq!(ExternalAccountKid::parse(text).expect("a name").as_str(), text);
        }
        for wrong in ["", "-a", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert_eq!(ExternalAccountKid::parse(wrong), None, "{wrong}");
        }
    }
}
