//! `chancery renew`: asks the holders of certificates to renew them at once, by their renewal information (RFC 9773).

use std::fmt::Write as _;

use clap::Args;

use super::Configured;
use super::audit::serial;
use crate::acme::certificate::Serial;
use crate::config::Config;
use crate::server::{self, StartError};

/// `chancery renew`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RenewCommand {
    /// The certificates' serials, in hexadecimal with or without colons, or their URLs
    #[arg(value_name = "SERIAL", required = true, value_parser = serial)]
    pub serials: Vec<Serial>,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// Marks the certificates; a line for each.
pub async fn run(command: &RenewCommand, config: &Config) -> Result<String, StartError> {
    let store = server::open_store_beside(config).await?;
    let (mut said, now) = (String::new(), store.now().await?);
    for serial in &command.serials {
        let asked = store.ask_for_renewal(serial, now).await?;
        let outcome = if asked {
            "its window is in the past from now on"
        } else {
            "not on record, revoked, or asked for already"
        };
        writeln!(said, "{serial}: {outcome}")?;
    }
    Ok(said)
}
