//! What tests start and speak with: real servers on free ports in temporary folders.

pub mod accept;
pub mod bind;
pub mod certificate;
pub mod chancery;
pub mod client;
pub mod faketime;
pub mod flows;
pub mod foreign;
pub mod haproxy;
pub mod keys;
pub mod pebble;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod responder;
pub mod response;
pub mod rows;
pub mod run;
pub mod transport;
pub mod trial;
pub mod weak_keys;

/// Makes of each named `async fn(Arc<Deployment>)` beside it two tests: `embedded::NAME` and `fleet::NAME`, on the
/// deployments that the function before the arrow starts (or shares) for each kind.
#[macro_export]
macro_rules! wire_tests {
    ($($start:path => $($name:ident)+;)+) => {
        mod embedded {
            use super::*;
            $($(#[test]
            fn $name() {
                $crate::support::run::wire($start, $crate::support::chancery::Kind::Embedded, super::$name);
            })+)+
        }

        mod fleet {
            use super::*;
            $($(#[test]
            fn $name() {
                $crate::support::run::wire($start, $crate::support::chancery::Kind::Fleet, super::$name);
            })+)+
        }
    };
}
