//! A small ACME client on instant-acme:
//!
//! ```text
//! client issue CHALLENGE FOLDER NAME…    a certificate: FOLDER/chain.pem and FOLDER/key.pem
//! client renew CHALLENGE FOLDER NAME…    another in its place, if its renewal information (RFC 9773) says so
//! client revoke FOLDER REASON
//! ```
//!
//! The environment says the rest: `ACME_DIRECTORY`, `ACME_ROOT` (what the server is trusted by), `ACME_ACCOUNT` (a
//! file, made at first), `ACME_EAB_KID` and `ACME_EAB_KEY`, `ACME_PROFILE`, and where challenges are answered:
//! `ACME_WEBROOT` (a file a token), `ACME_ALPN` (`NAME.crt.pem` and `NAME.key.pem`), `ACME_DNS_HOOK` (a program:
//! `present NAME VALUE`).

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy, RevocationReason, RevocationRequest,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let account = account().await?;
    println!("account {}", account.id());
    match arguments.as_slice() {
        ["issue", challenge, folder, names @ ..] => obtain(&account, challenge, folder, names, None).await,
        ["renew", challenge, folder, names @ ..] => {
            let certificate = leaf(folder)?;
            let id = CertificateIdentifier::try_from(&certificate)?;
            let (information, _) = account.renewal_info(&id).await?;
            println!("window {}", information.suggested_window.start);
            if information.suggested_window.start > OffsetDateTime::now_utc() {
                println!("not due");
                return Ok(());
            }
            obtain(&account, challenge, folder, names, Some(id)).await
        }
        ["revoke", folder, reason] => {
            let certificate = leaf(folder)?;
            let reason = match *reason {
                "keyCompromise" => RevocationReason::KeyCompromise,
                "superseded" => RevocationReason::Superseded,
                other => return Err(format!("no reason of revocation: {other}").into()),
            };
            let request = RevocationRequest { certificate: &certificate, reason: Some(reason) };
            Ok(account.revoke(&request).await?)
        }
        _ => Err("issue|renew CHALLENGE FOLDER NAME… or revoke FOLDER REASON".into()),
    }
}

/// The account of the last run, or a new one.
async fn account() -> Result<Account> {
    let builder = Account::builder_with_root(env::var("ACME_ROOT")?)?;
    let file = env::var("ACME_ACCOUNT")?;
    if let Ok(kept) = fs::read_to_string(&file) {
        return Ok(builder.from_credentials(serde_json::from_str(&kept)?).await?);
    }
    let external = match (env::var("ACME_EAB_KID"), env::var("ACME_EAB_KEY")) {
        (Ok(kid), Ok(key)) => Some(ExternalAccountKey::new(kid, &BASE64_URL_SAFE_NO_PAD.decode(key)?)),
        _ => None,
    };
    let new = NewAccount {
        contact: &["mailto:instant-acme@example.org"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder.create(&new, env::var("ACME_DIRECTORY")?, external.as_ref()).await?;
    fs::write(file, serde_json::to_string(&credentials)?)?;
    Ok(account)
}

async fn obtain(
    account: &Account,
    challenge: &str,
    folder: &str,
    names: &[&str],
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<()> {
    let identifiers: Vec<_> = names.iter().map(|name| identifier(name)).collect();
    let profile = env::var("ACME_PROFILE").ok();
    let mut order = NewOrder::new(&identifiers);
    if let Some(profile) = &profile {
        order = order.profile(profile);
    }
    if let Some(replaces) = replaces {
        order = order.replaces(replaces);
    }
    let mut order = account.new_order(&order).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let kind = match challenge {
            "http-01" => ChallengeType::Http01,
            "tls-alpn-01" => ChallengeType::TlsAlpn01,
            "dns-01" => ChallengeType::Dns01,
            other => return Err(format!("no challenge: {other}").into()),
        };
        let mut challenge = authorization.challenge(kind).ok_or("the challenge is not offered")?;
        answer(&challenge)?;
        challenge.set_ready().await?;
    }
    let patient = RetryPolicy::default().timeout(Duration::from_secs(90));
    let status = order.poll_ready(&patient).await?;
    if status != OrderStatus::Ready {
        return Err(format!("the order is {status:?}: {:?}", order.state().error).into());
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&patient).await?;
    fs::create_dir_all(folder)?;
    fs::write(Path::new(folder).join("key.pem"), key)?;
    fs::write(Path::new(folder).join("chain.pem"), chain)?;
    Ok(())
}

fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

/// Lays the answer where the server will look for it.
fn answer(challenge: &ChallengeHandle<'_>) -> Result<()> {
    let authorization = challenge.key_authorization();
    // Without the wildcard's star.
    let name = challenge.identifier().identifier.authorized(false).to_string();
    match &challenge.r#type {
        ChallengeType::Http01 => {
            fs::write(Path::new(&env::var("ACME_WEBROOT")?).join(&challenge.token), authorization.as_str())?;
        }
        ChallengeType::TlsAlpn01 => {
            let mut parameters = CertificateParams::new([name.clone()])?;
            let digest = authorization.digest();
            parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
            let key = KeyPair::generate()?;
            let folder = env::var("ACME_ALPN")?;
            let file = |end| Path::new(&folder).join(format!("{name}.{end}.pem"));
            fs::write(file("key"), key.serialize_pem())?;
            fs::write(file("crt"), parameters.self_signed(&key)?.pem())?;
        }
        _ => {
            let mut hook = Command::new(env::var("ACME_DNS_HOOK")?);
            hook.args(["present", &format!("_acme-challenge.{name}"), &authorization.dns_value()]);
            if !hook.status()?.success() {
                return Err("the DNS hook failed".into());
            }
        }
    }
    Ok(())
}

/// The certificate that the folder holds.
fn leaf(folder: &str) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_file(Path::new(folder).join("chain.pem"))?)
}
