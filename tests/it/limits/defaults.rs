//! What honest clients do on their first day passes with the limits as they are unless configured.

use std::sync::{Arc, OnceLock};

use crate::support::chancery::{Deployment, Kind, Settings};
use crate::support::run::unique_name;
use crate::wire_tests;

wire_tests! {
    unconfigured => a_host_with_twenty_sites_gets_all_its_certificates_at_once;
}

fn unconfigured(kind: Kind) -> Arc<Deployment> {
    static EMBEDDED: OnceLock<Arc<Deployment>> = OnceLock::new();
    static FLEET: OnceLock<Arc<Deployment>> = OnceLock::new();
    let cell = if kind == Kind::Embedded { &EMBEDDED } else { &FLEET };
    cell.get_or_init(|| Deployment::with(kind, &Settings::new().default_limits())).clone()
}

/// Traefik and cert-manager place the orders of all sites at once, by one account, and answer their challenges then.
async fn a_host_with_twenty_sites_gets_all_its_certificates_at_once(server: Arc<Deployment>) {
    let client = server.account().await;
    let names: Vec<String> = (0..20).map(|_| unique_name()).collect();
    let orders = names.iter().map(|name| async { client.order(&[name]).await });
    let orders = futures_util::future::join_all(orders).await;
    let issued = orders.iter().zip(&names).map(|(order, name)| {
        let client = &client;
        async move {
            client.authorize(order, "http-01").await;
            client.collect(order, &[name], crate::support::keys::Key::new()).await
        }
    });
    assert_eq!(futures_util::future::join_all(issued).await.len(), 20);
}
