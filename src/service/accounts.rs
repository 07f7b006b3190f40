//! new-account, account update and deactivation (RFC 8555 §7.3).

use std::net::IpAddr;

use super::refusal::{Refusal, ServiceError};
use super::{Services, blocked_keys, external_accounts, limits};
use crate::acme::account::{Account, AccountStatus};
use crate::acme::id::{AccountId, OrderId};
use crate::acme::message::{AccountUpdate, NewAccount};
use crate::acme::problem::{Problem, ProblemType};
use crate::jose::PublicKey;
use crate::limits::Use;

/// How many contacts an account may have (ACC-05).
const MAX_CONTACTS: usize = 10;

/// How many orders a page of the account's list has (ACC-09).
const ORDERS_PER_PAGE: i64 = 100;

/// Finds or makes the account of `key` for a client at the address `client`. Says whether it was made (RFC 8555 §7.3,
/// §7.3.1). `url` is that of the request, which `directory` names the profile of, if it is a profile's own. Making an
/// account is limited, and so is what is refused; finding one is how clients begin (KEY-04).
pub async fn new_account(
    services: &Services,
    key: &PublicKey,
    url: &str,
    request: NewAccount,
    directory: Option<&str>,
    client: IpAddr,
) -> Result<(Account, bool), ServiceError> {
    let answer = find_or_make(services, key, url, request, directory, client).await;
    if let Err(ServiceError::Refused(refusal)) = &answer
        && !matches!(refusal, Refusal::RateLimited(_))
    {
        let _charged = services.limits.take(&Use::refused_account(client)).await?;
    }
    answer
}

async fn find_or_make(
    services: &Services,
    key: &PublicKey,
    url: &str,
    request: NewAccount,
    directory: Option<&str>,
    client: IpAddr,
) -> Result<(Account, bool), ServiceError> {
    let thumbprint = key.thumbprint();
    // The same key again is answered with the same account, whatever else is in the payload (ACC-02).
    if let Some(account) = services.store.account_by_key(&thumbprint).await? {
        return existing(account);
    }
    if request.only_return_existing {
        return Err(Refusal::AccountDoesNotExist.into());
    }
    let contacts = read_contacts(&request.contacts)?;
    if let Some(terms) = &services.settings.terms_of_service
        && !request.terms_agreed
    {
        return Err(Refusal::UserActionRequired(terms.clone()).into());
    }
    let request = NewAccount { contacts, ..request };
    let refused = match make(services, key, url, request, directory, client).await {
        Ok(Some(account)) => return Ok((account, true)),
        Ok(None) => None,
        Err(ServiceError::Refused(refusal)) => Some(refusal),
        Err(error) => return Err(error),
    };
    // Another request with this key may have been faster, and have used the last use of the external account key too.
    match (services.store.account_by_key(&thumbprint).await?, refused) {
        (Some(account), _) => existing(account),
        (None, Some(refusal)) => {
            external_accounts::count_refusal(&refusal);
            Err(refusal.into())
        }
        (None, None) if services.store.key_is_blocked(&blocked_keys::key_sha256(key)).await? => {
            Err(Refusal::AccountKeyBlocked.into())
        }
        (None, None) => Err(ServiceError::Internal("an account's key is taken by no account".to_owned())),
    }
}

/// Makes the account, bound to what it offers; `None` if its key has one, or is blocked.
async fn make(
    services: &Services,
    key: &PublicKey,
    url: &str,
    request: NewAccount,
    directory: Option<&str>,
    client: IpAddr,
) -> Result<Option<Account>, ServiceError> {
    let offered = request.external_account_binding.as_ref();
    let external_account = external_accounts::check(services, offered, url, key, directory).await?;
    let now = services.now();
    let account = Account {
        id: AccountId::new(),
        key_thumbprint: key.thumbprint(),
        jwk: key.to_jwk(),
        status: AccountStatus::Valid,
        contacts: request.contacts,
        terms_agreed_at: request.terms_agreed.then_some(now),
        external_account,
        created_at: now,
    };
    let key_sha256 = blocked_keys::key_sha256(key);
    let held = services.limits.take(&Use::new_account(client)).await?;
    let made = match &account.external_account {
        Some(external) => external_accounts::insert(services, &account, &key_sha256, external).await,
        None => services.store.insert_account(&account, &key_sha256).await.map_err(Into::into),
    };
    if !matches!(made, Ok(true) | Err(ServiceError::Unavailable(_))) {
        services.limits.refund(held).await;
    }
    Ok(made?.then_some(account))
}

fn existing(account: Account) -> Result<(Account, bool), ServiceError> {
    match account.status {
        AccountStatus::Valid => Ok((account, false)),
        AccountStatus::Deactivated | AccountStatus::Revoked => Err(Refusal::AccountDeactivated.into()),
    }
}

/// RFC 8555 §7.3: `mailto:` with one address and no hfields (RFC 6068). Answers the contacts as they are kept.
fn read_contacts(contacts: &[String]) -> Result<Vec<String>, ServiceError> {
    if contacts.len() > MAX_CONTACTS {
        return Err(Refusal::Malformed(format!("an account may have at most {MAX_CONTACTS} contacts")).into());
    }
    contacts.iter().map(|contact| read_contact(contact).map_err(Into::into)).collect()
}

fn read_contact(contact: &str) -> Result<String, Refusal> {
    const SCHEME: &str = "mailto:";
    let shown = || contact.chars().take(128).collect();
    // RFC 3986 §3.1: schemes have no case.
    let address = match contact.split_at_checked(SCHEME.len()) {
        Some((scheme, address)) if scheme.eq_ignore_ascii_case(SCHEME) => address,
        _ => return Err(Refusal::UnsupportedContact(shown())),
    };
    // getssl writes a space before the address.
    let address = address.trim_start_matches(' ');
    if !is_address(address) {
        return Err(Refusal::InvalidContact(shown()));
    }
    Ok(format!("{SCHEME}{address}"))
}

/// One `local@domain`: no list, no hfields, no display name, no white space.
fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let plain =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'?' | b'<' | b'>' | b'@' | b'"' | b'(' | b')');
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    address.len() <= 254
        && (1..=64).contains(&local.len())
        && local.bytes().all(plain)
        && domain.split('.').all(label)
        && domain.contains('.')
}

/// What an order says whose account was deactivated.
pub fn deactivated() -> Problem {
    Problem::new(ProblemType::Unauthorized, "the account was deactivated")
}

/// Changes contacts or deactivates (RFC 8555 §7.3.2, §7.3.6). Answers the account as it is afterwards.
pub async fn update(
    services: &Services,
    mut account: Account,
    request: AccountUpdate,
) -> Result<Account, ServiceError> {
    match request.status.as_deref() {
        None | Some("valid") => {}
        Some("deactivated") => {
            services.store.deactivate_account(&account.id, services.now()).await?;
            account.status = AccountStatus::Deactivated;
            return Ok(account);
        }
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            let detail = format!("an account's status can be set to \"deactivated\" only, not to {shown:?}");
            return Err(Refusal::Malformed(detail).into());
        }
    }
    let Some(contacts) = request.contacts else { return Ok(account) };
    let contacts = read_contacts(&contacts)?;
    if contacts == account.contacts {
        Ok(account)
    } else {
        change_contacts(services, account, contacts).await
    }
}

async fn change_contacts(
    services: &Services,
    account: Account,
    contacts: Vec<String>,
) -> Result<Account, ServiceError> {
    let held = services.limits.take(&[Use::account_update(&account.id)]).await?;
    let changed = services.store.update_contacts(&account.id, &contacts).await;
    if !matches!(changed, Ok(true)) {
        limits::refund_if_not_done(services, held, &changed).await;
    }
    if changed? {
        return Ok(Account { contacts, ..account });
    }
    // Another request said the same, or ended the account.
    match services.store.account(&account.id).await? {
        Some(account) if account.status == AccountStatus::Valid && account.contacts == contacts => {
            Ok(account)
        }
        _ => Err(Refusal::Unauthorized("the account was changed by another request").into()),
    }
}

/// A page of the account's orders, and where the next one begins (RFC 8555 §7.1.2.1).
pub async fn orders(
    services: &Services,
    account: &AccountId,
    after: &str,
) -> Result<(Vec<OrderId>, Option<OrderId>), ServiceError> {
    let mut page =
        services.store.orders_of_account(account, after, ORDERS_PER_PAGE + 1, services.now()).await?;
    let full = i64::try_from(page.len()).is_ok_and(|len| len > ORDERS_PER_PAGE);
    if full {
        page.pop();
    }
    let next = if full { page.last().cloned() } else { None };
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acc_05_contacts_are_one_address_each() {
        let check = |contact: &str| read_contacts(&[contact.to_owned()]);
        for good in ["mailto:Admin@example.org", "MAILTO:Admin@example.org", "mailto: Admin@example.org"] {
            assert_eq!(check(good).expect(good), ["mailto:Admin@example.org"]);
        }
        assert!(matches!(check("mailtö:a@b.c"), Err(ServiceError::Refused(Refusal::UnsupportedContact(_)))));
        assert!(matches!(check("tel:+1"), Err(ServiceError::Refused(Refusal::UnsupportedContact(_)))));
        for bad in [
            "mailto:",
            "mailto:a",
            "mailto:a@b,c@d.e",
            "mailto:a@b.c?subject=x",
            "mailto:a b@c.d",
            "mailto:a@b.c ",
            "mailto:\ta@b.c",
            "mailto:A <a@b.c>",
        ] {
            assert!(matches!(check(bad), Err(ServiceError::Refused(Refusal::InvalidContact(_)))), "{bad}");
        }
        assert!(read_contacts(&vec!["mailto:a@b.c".to_owned(); 11]).is_err());
    }
}
