//! A signature by a token, by whichever of its mechanisms does: some tokens list what they do not have.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;

use super::mechanism::{Input, Scheme};
use crate::kmip::Failure;
use crate::pkcs11::{Error, Key, Token, Use};

/// Why there is no signature.
pub(super) enum Unsigned {
    /// The token has no mechanism for it, or the input does not fit.
    Unfit(Failure),
    /// The token failed.
    Failed(Error),
}

impl From<Unsigned> for Failure {
    fn from(unsigned: Unsigned) -> Self {
        match unsigned {
            Unsigned::Unfit(failure) => failure,
            Unsigned::Failed(error) => error.into(),
        }
    }
}

/// Signs in the token's form of the signature. Where one mechanism is refused, the next that makes the same signature is tried, and
/// comes first from then on.
///
/// # Errors
/// [`Unsigned`], with the first refusal.
pub(super) fn sign(token: &Token, key: &Key, scheme: Scheme, input: Input<'_>) -> Result<Vec<u8>, Unsigned> {
    let mut refused = Vec::new();
    let mut first = None;
    loop {
        let call = match scheme.call(token.mechanisms(), Use::Sign, input, &refused) {
            Ok(call) => call,
            Err(failure) => return Err(first.map_or(Unsigned::Unfit(failure), Unsigned::Failed)),
        };
        match token.sign(key, &call.mechanism, &call.data) {
            Ok(signature) => {
                refused.into_iter().for_each(|mechanism| token.refused(mechanism));
                return Ok(signature);
            }
            Err(error) if is_of_the_mechanism(&error) => {
                refused.push(call.mechanism.mechanism_type());
                first.get_or_insert(error);
            }
            Err(error) => return Err(Unsigned::Failed(error)),
        }
    }
}

fn is_of_the_mechanism(error: &Error) -> bool {
    matches!(
        error.rv(),
        Some(RvError::FunctionNotSupported | RvError::MechanismInvalid | RvError::MechanismParamInvalid)
    )
}
