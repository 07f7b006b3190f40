//! AUT-10 and AUT-13: http-01, and where the server will not go for it.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Mutex;

use crate::support::chancery::Deployment;
use crate::support::flows::text;
use crate::support::keys::Key;
use crate::support::responder::{self, HttpRequest, Reply};
use crate::support::run::{unique_address, unique_name};
use crate::support::trial::Trial;
use crate::wire_tests;

wire_tests! {
    Deployment::shared =>
        aut_10_the_key_authorization_is_asked_for_where_it_belongs
        aut_10_white_space_behind_it_is_forgiven_and_nothing_else
        aut_10_ten_redirects_are_followed_and_no_more
        aut_10_redirects_lead_to_known_ports_only
        aut_10_a_body_without_end_is_cut
        aut_10_addresses_are_proven_too
        aut_10_ipv6_comes_first_and_ipv4_after_it
        aut_13_refused_addresses_are_never_connected_to
        aut_13_redirects_to_refused_addresses_are_not_followed;
}

async fn aut_10_the_key_authorization_is_asked_for_where_it_belongs(server: Arc<Deployment>) {
    let client = server.account().await;
    let trial = Trial::http(&client, |answer| Reply::Body(answer.to_owned())).await;
    trial.succeeds().await;
    let asked = responder::http().requests(&trial.token());
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "GET");
    assert_eq!(asked[0].target, format!("/.well-known/acme-challenge/{}", trial.token()));
    let name = text(&trial.authorization["identifier"], "value");
    assert_eq!(asked[0].host.split(':').next(), Some(name.as_str()));
}

async fn aut_10_white_space_behind_it_is_forgiven_and_nothing_else(server: Arc<Deployment>) {
    let client = server.account().await;
    let right = |answer: &str| Reply::Body(format!("{answer} \t\r\n\n"));
    Trial::http(&client, right).await.succeeds().await;
    let stranger = Key::new().thumbprint();
    type Spoil = Box<dyn Fn(&str) -> String>;
    let wrong: [Spoil; 6] = [
        Box::new(|answer| format!(" {answer}")),
        Box::new(|answer| format!("{answer}x")),
        Box::new(|answer| answer.to_lowercase()),
        Box::new(|answer| answer.split('.').next().unwrap_or("").to_owned()),
        Box::new(move |answer| format!("{}.{stranger}", answer.split('.').next().unwrap_or(""))),
        Box::new(|_| String::new()),
    ];
    let trials = wrong.iter().map(|wrong| async {
        let trial = Trial::http(&client, |answer| Reply::Body(wrong(answer))).await;
        trial.fails(&["incorrectResponse", "unauthorized"]).await;
    });
    join_all(trials).await;
    for status in ["500 Oops", "403 Forbidden"] {
        let reply = |answer: &str| {
            let length = answer.len();
            Reply::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{answer}").into())
        };
        let trial = Trial::http(&client, reply).await;
        trial.fails(&["unauthorized", "incorrectResponse", "connection"]).await;
    }
}

fn redirects(hops: usize, answer: &str) -> Reply {
    let (answer, port) = (answer.to_owned(), responder::http().port());
    Reply::By(Arc::new(move |request: &HttpRequest| {
        let mut parts = request.target.rsplit('/');
        let token = parts.next().unwrap_or("");
        let done: usize = parts.next().and_then(|hop| hop.parse().ok()).unwrap_or(0);
        match done {
            done if done == hops => Reply::Body(answer.clone()),
            // Some redirects are relative.
            done if done % 2 == 1 => Reply::Redirect(format!("/{}/{token}", done + 1)),
            done => {
                let name = request.host.split(':').next().unwrap_or("");
                Reply::Redirect(format!("http://{name}:{port}/{}/{token}", done + 1))
            }
        }
    }))
}

async fn aut_10_ten_redirects_are_followed_and_no_more(server: Arc<Deployment>) {
    let client = server.account().await;
    for hops in [1, 10] {
        let trial = Trial::http(&client, |answer| redirects(hops, answer)).await;
        trial.succeeds().await;
        assert_eq!(responder::http().requests(&trial.token()).len(), hops + 1);
    }
    for hops in [11, usize::MAX] {
        let trial = Trial::http(&client, |answer| redirects(hops, answer)).await;
        trial.fails(&["connection", "unauthorized", "incorrectResponse"]).await;
        // At most two attempts, of at most eleven requests each.
        assert!(responder::http().requests(&trial.token()).len() <= 22);
    }
}

async fn aut_10_redirects_lead_to_known_ports_only(server: Arc<Deployment>) {
    let client = server.account().await;
    let (tls, dns) = (responder::tls().port(), responder::dns().address().port());
    let places = [
        format!("http://127.0.0.1:{dns}/x"),
        format!("https://127.0.0.1:{tls}/x"),
        format!("https://127.0.0.1:{}/x", responder::http().port()),
        "ftp://127.0.0.1/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://127.0.0.1:0/x".to_owned(),
        "http://127.0.0.1:99999/x".to_owned(),
        "//".to_owned(),
        String::new(),
    ];
    let trials = places.iter().map(|place| async {
        let trial = Trial::http(&client, |_| Reply::Redirect(place.clone())).await;
        let error = trial.fails(&["connection", "unauthorized", "incorrectResponse", "malformed"]).await;
        assert!(!text(&error, "detail").contains("root:"), "{error}");
    });
    join_all(trials).await;
}

async fn aut_10_a_body_without_end_is_cut(server: Arc<Deployment>) {
    let client = server.account().await;
    let trial = Trial::http(&client, |_| Reply::Endless).await;
    trial.fails(&["connection", "unauthorized", "incorrectResponse"]).await;
}

async fn aut_10_addresses_are_proven_too(server: Arc<Deployment>) {
    let client = server.account().await;
    let address = unique_address();
    let listener = responder::http().listen_on(address.into());
    let name = address.to_string();
    let trial = Trial::new(&client, &name, "http-01").await;
    responder::http().set(&trial.token(), Reply::Body(trial.answer()));
    trial.succeeds().await;
    let asked = responder::http().requests(&trial.token());
    assert_eq!(asked[0].local.ip(), IpAddr::from(address));
    let issued = client.collect(&trial.order, &[&name], Key::new()).await;
    assert_eq!(issued.chain.names(), [name]);
    listener.abort();
}

async fn aut_10_ipv6_comes_first_and_ipv4_after_it(server: Arc<Deployment>) {
    // One test at a time: there is one loopback address of IPv6.
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let client = server.account().await;
    let loopback: IpAddr = [0, 0, 0, 0, 0, 0, 0, 1].into();
    let both = || {
        let name = unique_name();
        responder::dns().add_address(&name, loopback);
        responder::dns().add_address(&name, [127, 0, 0, 1].into());
        name
    };
    let mut used = Vec::new();
    for listening in [false, true] {
        let listener = listening.then(|| responder::http().listen_on(loopback));
        let trial = Trial::new(&client, &both(), "http-01").await;
        responder::http().set(&trial.token(), Reply::Body(trial.answer()));
        trial.succeeds().await;
        used.push(responder::http().requests(&trial.token())[0].local.is_ipv6());
        if let Some(listener) = listener {
            listener.abort();
            let _ = listener.await;
        }
    }
    assert_eq!(used, [false, true], "IPv4 while IPv6 refuses, IPv6 when it does not");
}

async fn aut_13_refused_addresses_are_never_connected_to(server: Arc<Deployment>) {
    let client = server.account().await;
    let refused: [IpAddr; 7] = [
        "169.254.169.254".parse().expect("an address"),
        "0.0.0.0".parse().expect("an address"),
        "224.0.0.1".parse().expect("an address"),
        "255.255.255.255".parse().expect("an address"),
        "::".parse().expect("an address"),
        "::ffff:169.254.169.254".parse().expect("an address"),
        "fe80::1".parse().expect("an address"),
    ];
    let trials = refused.into_iter().map(|address| {
        let client = &client;
        async move {
            for kind in ["http-01", "tls-alpn-01"] {
                let name = unique_name();
                responder::dns().add_address(&name, address);
                let start = std::time::Instant::now();
                // The answers are right: whoever connected (0.0.0.0 is this machine) would be content.
                let trial = Trial::new(client, &name, kind).await;
                client.prepare(&trial.authorization, &trial.challenge);
                trial.fails(&["connection", "unauthorized", "dns", "tls"]).await;
                assert!(responder::http().requests(&trial.token()).is_empty(), "{address}");
                assert!(start.elapsed().as_secs() < 20, "{address}: nothing was waited for");
            }
        }
    });
    join_all(trials).await;
    // As an identifier, such an address is nobody's (ORD-03).
    let metadata = json!({"identifiers": [{"type": "ip", "value": "169.254.169.254"}]});
    client.new_order(metadata).await.problem(400, "rejectedIdentifier");
}

async fn aut_13_redirects_to_refused_addresses_are_not_followed(server: Arc<Deployment>) {
    let client = server.account().await;
    let port = responder::http().port();
    let hidden = unique_name();
    responder::dns().add_address(&hidden, [0, 0, 0, 0].into());
    let trials =
        ["169.254.169.254", "0.0.0.0", "[::ffff:169.254.169.254]", "0", "0x0", hidden.as_str()].map(|host| {
            let client = &client;
            async move {
                let reply = |answer: &str| {
                    let (answer, place) = (answer.to_owned(), format!("http://{host}:{port}/inside/"));
                    Reply::By(Arc::new(move |request: &HttpRequest| {
                        let token = request.target.rsplit('/').next().unwrap_or("");
                        match request.target.contains("inside") {
                            true => Reply::Body(answer.clone()),
                            false => Reply::Redirect(format!("{place}{token}")),
                        }
                    }))
                };
                let trial = Trial::http(client, reply).await;
                trial.fails(&["connection", "unauthorized", "dns", "incorrectResponse"]).await;
                let inside = responder::http().requests(&trial.token()).into_iter();
                assert_eq!(inside.filter(|request| request.target.contains("inside")).count(), 0, "{host}");
            }
        });
    join_all(trials).await;
}
