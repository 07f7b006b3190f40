#![no_main]
//! Any bytes as a web server's response, through our HTTP client, to where its redirect leads and what http-01 makes of
//! its body.

use chancery::network::connect::Host;
use chancery::network::fetch::{Fetched, MAX_BODY, exchange};
use chancery::network::url::{HttpUrl, RedirectPorts};
use chancery::validation::{Verdict, http01};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(48 * 1024)];
    let url = HttpUrl::http(Host::Name("a.test".to_owned()), 5002, "/.well-known/acme-challenge/tok");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let outcome = runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        // A client takes bytes that come before its request for an error.
        let peer = async {
            theirs.read_u8().await.expect("a request comes");
            theirs.write_all(data).await.expect("it fits");
            theirs.shutdown().await.expect("it is open");
        };
        tokio::join!(exchange(ours, &url), peer).0
    });
    let Ok(response) = outcome else { return };
    assert!(response.body.len() <= MAX_BODY);
    if let Some(location) = &response.location {
        if let Ok(target) = url.redirect(location, RedirectPorts { http: 5002, https: 443 }) {
            assert!(if target.https { target.port == 443 } else { [80, 5002].contains(&target.port) });
            assert!(target.path.starts_with('/'));
        }
    }
    let right = response.status == 200 && response.body.trim_ascii_end() == b"tok.thumb" && !response.cut;
    let fetched = Fetched {
        status: response.status,
        body: response.body,
        cut: response.cut,
        address: ([127, 0, 0, 1], 5002).into(),
        url: url.to_string(),
    };
    assert_eq!(http01::judge("tok.thumb", &fetched) == Verdict::Valid, right);
});
