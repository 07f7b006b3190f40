//! What is counted as a waiting job: one that a replica could still do something about.

use std::time::Duration;

use chancery::acme::authorization::{Authorization, Outcome};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::id::{AccountId, AuthorizationId, LeaseToken};
use chancery::acme::identifier::Identifier;
use chancery::acme::time::Timestamp;
use chancery::storage::{Store, ValidationJob};

use crate::support::run::{folder, runtime};

#[test]
fn a_job_past_its_expiry_waits_for_nobody() {
    let (start, second) = (Timestamp::from_seconds(1_000), Duration::from_secs(1));
    let authorization = Authorization {
        id: AuthorizationId::new(),
        account_id: AccountId::new(),
        profile: "default".to_owned(),
        identifier: Identifier::Dns("a.chancery.test".to_owned()),
        wildcard: false,
        outcome: Outcome::Pending,
        expires_at: start.plus(second * 60),
        token: "token".to_owned(),
        challenge_types: vec![ChallengeType::Http01],
        attempted: None,
        validated_at: None,
        error: None,
    };
    let job = ValidationJob {
        authorization,
        key_thumbprint: "thumbprint".to_owned(),
        lease: LeaseToken::new(),
        claims: 1,
    };
    runtime().block_on(async {
        let store = Store::sqlite(&folder("waiting").join("chancery.sqlite")).await.unwrap();
        store.migrate().await.unwrap();
        store.insert_authorization(&job.authorization, start).await.unwrap();
        let until = start.plus(second * 6);
        assert!(store.begin_validation(&job, ChallengeType::Http01, start, until).await.unwrap());
        let waiting = async |after: u32| store.waiting_validations(start.plus(second * after)).await.unwrap();
        assert_eq!(waiting(5).await, (0, None), "a replica has it");
        assert_eq!(waiting(7).await, (1, Some(until)), "its replica died");
        assert_eq!(waiting(61).await, (0, None), "nobody will ever take it");
        let claimed = store.claim_validations(start.plus(second * 61), until, 9).await.unwrap();
        assert!(claimed.is_empty());
    });
}
