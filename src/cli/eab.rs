//! `chancery eab`: keys for external account binding (RFC 8555 §7.3.4), made, listed and revoked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::Configured;
use crate::acme::external_account::ExternalAccountKey;
use crate::acme::id::ExternalAccountKid;
use crate::acme::time::Timestamp;
use crate::config::{self, Config};
use crate::server::{self, StartError};
use crate::service::external_accounts::{self, GivenKey, NewKey};
use crate::service::{DEFAULT_PROFILE, Urls};
use crate::storage::Store;

/// `chancery eab`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum EabCommand {
    /// Make a key and print it, once, with the lines for lego, certbot and cert-manager
    ///
    /// It works while replicas run, and every replica takes the key at once. The secret is encrypted in the database
    /// under eab.encryption_key.
    Create(EabCreate),
    /// Show all keys, without their secrets
    List(EabList),
    /// Withdraw a key: it binds no further account; accounts that it has bound stay
    Revoke(EabRevoke),
}

/// `chancery eab create`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct EabCreate {
    /// The profile that the key is for [default: all]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// How many accounts it binds: a number, or `unlimited`
    #[arg(long, value_name = "N", default_value = "1", value_parser = uses)]
    pub uses: Uses,
    /// How long it may be used, such as 12h or 30d [default: until it is used or revoked]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub expires: Option<Duration>,
    /// The identifier of a key that another server gave out, which clients go on with [default: a new one]
    #[arg(long, value_name = "KID", value_parser = kid, requires = "secret_file", allow_hyphen_values = true)]
    pub kid: Option<ExternalAccountKid>,
    /// The file with its HMAC key in base64url
    #[arg(long, value_name = "FILE", requires = "kid")]
    pub secret_file: Option<PathBuf>,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery eab list`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct EabList {
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// `chancery eab revoke`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct EabRevoke {
    /// The key's identifier, as `create` and `list` print it
    #[arg(value_name = "KID", value_parser = kid, allow_hyphen_values = true)]
    pub kid: ExternalAccountKid,
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
}

/// How many accounts a key binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// So many.
    Times(u64),
    /// Any number.
    Unlimited,
}

/// Ten years are as good as for ever.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// How many keys are read at once.
const PAGE: i64 = 500;

fn uses(text: &str) -> Result<Uses, String> {
    match text.parse() {
        _ if text == "unlimited" => Ok(Uses::Unlimited),
        Ok(times @ 1..=1_000_000_000) => Ok(Uses::Times(times)),
        _ => Err("this is a whole number from 1 to 1000000000, or unlimited".to_owned()),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    match config::parse_duration(text) {
        Some(span) if span > Duration::ZERO && span <= LONGEST => Ok(span),
        _ => {
            Err("a time span is a whole number and a unit, such as 90m, 12h or 30d, and at most 3650d"
                .to_owned())
        }
    }
}

fn kid(text: &str) -> Result<ExternalAccountKid, String> {
    ExternalAccountKid::parse(text).ok_or_else(|| {
        format!(
            "a key identifier has 1 to {} ASCII characters, none of them a control character",
            ExternalAccountKid::LONGEST
        )
    })
}

impl EabCommand {
    /// Where its configuration is.
    pub const fn configured(&self) -> &Configured {
        match self {
            Self::Create(create) => &create.configured,
            Self::List(list) => &list.configured,
            Self::Revoke(revoke) => &revoke.configured,
        }
    }
}

/// Does what is asked. Answers what is printed.
pub async fn run(command: &EabCommand, config: &Config) -> Result<String, StartError> {
    if let EabCommand::Create(EabCreate { profile: Some(name), .. }) = command
        && !config.profiles.contains_key(name)
    {
        let known: Vec<&str> = config.profiles.keys().map(String::as_str).collect();
        return Err(format!("there is no profile {name:?}; there are {}", known.join(", ")).into());
    }
    let store = server::open_store_beside(config).await?;
    // Expiry goes by the fleet's clock, which is the database's.
    let now = store.now().await?;
    match command {
        EabCommand::Create(create) => self::create(create, config, &store, now).await,
        EabCommand::List(_) => list(&store, now).await,
        EabCommand::Revoke(revoke) => match store.revoke_external_account_key(&revoke.kid, now).await? {
            true => Ok(format!(
                "{} is revoked: it binds no further account. Accounts that it has bound stay.\n",
                revoke.kid
            )),
            false => Err(format!("there is no external account key {}", revoke.kid).into()),
        },
    }
}

async fn create(
    create: &EabCreate,
    config: &Config,
    store: &Store,
    now: Timestamp,
) -> Result<String, StartError> {
    let sealing = server::open_sealing(config)?.ok_or(
        "eab.encryption_key is not set: give this command and every replica the same one, such as `openssl rand \
         -base64 32` prints (CHANCERY_EAB_ENCRYPTION_KEY, or CHANCERY_EAB_ENCRYPTION_KEY_FILE)",
    )?;
    external_accounts::check_sealing(store, Some(&sealing)).await?;
    let given = match (&create.kid, &create.secret_file) {
        (Some(kid), Some(file)) => Some(given(store, kid, file).await?),
        _ => None,
    };
    let new = NewKey {
        given,
        profile: create.profile.clone(),
        uses: match create.uses {
            Uses::Times(times) => Some(times),
            Uses::Unlimited => None,
        },
        expires_at: create.expires.map(|span| now.plus(span)),
    };
    let (key, secret) = external_accounts::create(store, &sealing, now, new).await?;
    let urls = Urls::new(&config.external_url, &config.ca.public_url);
    let own = key.profile.as_deref().filter(|name| *name != DEFAULT_PROFILE);
    Ok(introduction(&key, &secret) + &instructions(&key, &secret, &urls.directory(own)))
}

/// A key of another server's, read from its file.
async fn given(store: &Store, kid: &ExternalAccountKid, file: &Path) -> Result<GivenKey, StartError> {
    if store.external_account_key(kid).await?.is_some() {
        return Err(format!("there is an external account key {kid}; it is left as it is").into());
    }
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let text = Zeroizing::new(text);
    let secret = Base64UrlUnpadded::decode_vec(text.trim().trim_end_matches('='));
    match secret.map(Zeroizing::new) {
        Ok(secret) if secret.len() >= external_accounts::LEAST_SECRET_OCTETS => {
            Ok(GivenKey { kid: kid.clone(), secret })
        }
        _ => Err(format!("{shown} does not hold an HMAC key of 16 octets or more in base64url").into()),
    }
}

/// The kid as one word of a shell's: a key of another server may have any printable character in its name.
fn shell_word(kid: &ExternalAccountKid) -> String {
    let plain = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/' | b'+' | b'=' | b'@')
    };
    if kid.as_str().bytes().all(plain) {
        return kid.to_string();
    }
    format!("'{}'", kid.as_str().replace('\'', r"'\''"))
}

fn introduction(key: &ExternalAccountKey, secret: &str) -> String {
    let accounts = match key.uses_left {
        Some(1) => "one account".to_owned(),
        Some(uses) => format!("{uses} accounts"),
        None => "any number of accounts".to_owned(),
    };
    let profile = key.profile.as_ref().map(|name| format!(" of profile {name:?}")).unwrap_or_default();
    let end = key.expires_at.map(|end| format!(", until {end}")).unwrap_or_default();
    format!(
        "kid:      {}\nhmac key: {secret}\n\nIt binds {accounts}{profile}{end}. The HMAC key is shown this once.\n",
        key.kid
    )
}

fn instructions(key: &ExternalAccountKey, secret: &str, directory: &str) -> String {
    let kid = shell_word(&key.kid);
    // A JSON string is one in YAML, too; and a name of digits is a number there if it is not quoted.
    let quoted = serde_json::Value::from(key.kid.as_str());
    format!(
        "
lego 5:
  lego run --server {directory} --accept-tos --email you@example.org \\
    --eab --eab.kid {kid} --eab.hmac {secret} --domains NAME --http

lego 4 (Debian's):
  lego --server {directory} --accept-tos --email you@example.org \\
    --eab --kid {kid} --hmac {secret} --domains NAME --http run

certbot:
  certbot register --server {directory} --agree-tos --email you@example.org \\
    --eab-kid {kid} --eab-hmac-key {secret}

cert-manager, a Secret beside the Issuer:
  apiVersion: v1
  kind: Secret
  metadata:
    name: chancery-eab
  stringData:
    secret: {secret}

and in the Issuer's spec.acme:
  server: {directory}
  externalAccountBinding:
    keyID: {quoted}
    keySecretRef:
      name: chancery-eab
      key: secret
"
    )
}

async fn list(store: &Store, now: Timestamp) -> Result<String, StartError> {
    let mut text = String::new();
    let mut after = String::new();
    loop {
        let page = store.external_account_keys(&after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = last.kid.to_string();
        if text.is_empty() {
            text = line(["kid", "state", "bound", "left", "expires", "profile"]);
        }
        for (key, bound) in &page {
            let left = key.uses_left.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
            let end = key.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string());
            let profile = key.profile.as_deref().unwrap_or("any");
            let state = key.state(now).as_str();
            text += &line([&shell_word(&key.kid), state, &bound.to_string(), &left, &end, profile]);
        }
    }
    if text.is_empty() {
        text = "There are no keys; `chancery eab create` makes one.\n".to_owned();
    }
    Ok(text)
}

fn line([kid, state, bound, left, expires, profile]: [&str; 6]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{kid:<32}  {state:<7}  {bound:>5}  {left:>5}  {expires:<20}  {profile}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted() {
        let key = ExternalAccountKey {
            kid: ExternalAccountKid::new(),
            profile: Some("bound".to_owned()),
            uses_left: Some(3),
            expires_at: Some(Timestamp::from_seconds(1_900_000_000)),
            revoked_at: None,
            created_at: Timestamp::from_seconds(0),
        };
        let text = introduction(&key, "SECRET") + &instructions(&key, "SECRET", "https://ca.test/directory");
        assert!(
            text.contains("binds 3 accounts of profile \"bound\", until 2030-03-17T17:46:40Z."),
            "{text}"
        );
        for part in [
            format!("--eab --eab.kid {} --eab.hmac SECRET", key.kid),
            format!("--eab --kid {} --hmac SECRET", key.kid),
            format!("--eab-kid {} --eab-hmac-key SECRET", key.kid),
            format!("keyID: \"{}\"", key.kid),
            "    secret: SECRET".to_owned(),
        ] {
            assert!(text.contains(&part), "{part} not in {text}");
        }
        let odd = ExternalAccountKid::parse(r#"1 $(x)'"\"#).unwrap();
        let other = ExternalAccountKey { kid: odd, ..key.clone() };
        let text = introduction(&other, "S") + &instructions(&other, "S", "https://ca.test/directory");
        for part in [
            "kid:      1 $(x)'\"\\\n",
            r#"--eab-kid '1 $(x)'\''"\' --eab-hmac-key S"#,
            r#"keyID: "1 $(x)'\"\\""#,
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
        let endless = ExternalAccountKey { uses_left: None, profile: None, expires_at: None, ..key };
        assert!(introduction(&endless, "S").contains("It binds any number of accounts. The"));
    }

    #[test]
    fn arguments_are_bounded() {
        assert_eq!((uses("3"), uses("unlimited")), (Ok(Uses::Times(3)), Ok(Uses::Unlimited)));
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["0", "-1", "", "1000000001", "many"] {
            assert!(uses(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0s", "3651d", "30", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(kid("x").is_ok() && kid("-x").is_ok() && kid("x\n").is_err());
    }
}
