//! May an order still be issued? What was asked when it was placed is asked again, of the configuration as it is now: who
//! turns a profile, a name, a challenge type or an open door off thereby stops what is under way.

use super::refusal::Refusal;
use super::{Services, external_accounts};
use crate::acme::account::Account;
use crate::acme::identifier::Identifier;
use crate::acme::order::{Order, OrderAuthorization};
use crate::acme::problem::{Problem, ProblemType, Subproblem};
use crate::acme::profile::Profile;
use crate::policy::names;
use crate::policy::special::Ours;

/// The order's profile, or why the order is over: it never gets another one's content.
pub(super) fn profile_of<'s>(services: &'s Services, order: &Order) -> Result<&'s Profile, Problem> {
    services.profiles.get(&order.profile).ok_or_else(|| {
        let detail = format!("profile {:?} is not offered any more; place a new order", order.profile);
        Problem::new(ProblemType::InvalidProfile, detail)
    })
}

/// Whether the profile still gives the account a certificate for these identifiers, by these authorizations. All that is
/// wrong with identifiers is told at once.
pub(super) fn check(
    services: &Services,
    account: &Account,
    order: &Order,
    profile: &Profile,
) -> Result<(), Refusal> {
    external_accounts::check_account(account, profile)?;
    let pairs = order.identifiers.iter().zip(&order.authorizations);
    let ours = &services.settings.ours;
    let problems: Vec<Subproblem> =
        pairs.filter_map(|(identifier, by)| refused(identifier, by, profile, ours)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Refusal::Identifiers(problems)) }
}

fn refused(
    identifier: &Identifier,
    by: &OrderAuthorization,
    profile: &Profile,
    ours: &Ours,
) -> Option<Subproblem> {
    if let Err(refusal) = names::check(identifier, profile, ours) {
        return Some(Subproblem::of(refusal.kind(), refusal.to_string(), identifier));
    }
    if names::is_proof(by.attempted, identifier, profile) {
        return None;
    }
    let detail = match by.attempted {
        Some(kind) => format!(
            "it was authorized by {}, which profile {:?} does not offer any more; place a new order",
            kind.as_str(),
            profile.name
        ),
        None => format!(
            "it was authorized without a challenge, and profile {:?} asks for one now; place a new order",
            profile.name
        ),
    };
    Some(Subproblem::of(ProblemType::Unauthorized, detail, identifier))
}

/// The same for an issuance that has begun, perhaps long ago and under another configuration: what its order ends with
/// if it may not be issued. What will be signed is on record; whether it may be, who signs it decides.
pub(super) fn check_begun(services: &Services, account: &Account, order: &Order) -> Result<(), Problem> {
    let profile = profile_of(services, order)?;
    check(services, account, order, profile).map_err(ended)
}

/// What an order says that ended because its account may not have the certificate.
pub(super) fn ended(refusal: Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::Identifiers(subproblems) => Problem::of_identifiers(detail, subproblems),
        Refusal::CsrBlockedKey => Problem::new(ProblemType::BadCsr, detail),
        _ => Problem::new(ProblemType::Unauthorized, detail),
    }
}
