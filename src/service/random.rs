//! Where tokens, serials and secrets come from.

use super::ServiceError;

/// Random octets that nobody can predict.
pub(super) fn fill_random(octets: &mut [u8]) -> Result<(), ServiceError> {
    aws_lc_rs::rand::fill(octets).map_err(|_| ServiceError::Internal("no random numbers".to_owned()))
}
