//! CKR_* -> Result Reason: the one place where a token's refusal becomes KMIP's.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;

use super::ident;
use crate::kmip::{Failure, ResultReason};
use crate::pkcs11::{Error, OPERATION_NOT_VALIDATED, PARAMETER_SET_NOT_SUPPORTED};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound { .. } => ident::no_such_object(),
            Error::Ambiguous { class } => Self::new(
                ResultReason::ILLEGAL_OPERATION,
                format!(
                    "several {class} objects on the token have this CKA_ID, none is guessed: give each one of its own"
                ),
            ),
            Error::NoSession => Self::new(ResultReason::GENERAL_FAILURE, "no session of the token became free in time"),
            Error::Closed => Self::new(ResultReason::GENERAL_FAILURE, "the server is stopping"),
            Error::Call { rv, .. } => Self::new(reason_for(*rv), error.to_string()),
            Error::Fixed { .. } | Error::NoPin | Error::NotTaken { .. } => {
                Self::new(ResultReason::PERMISSION_DENIED, error.to_string())
            }
            Error::Unsupported(_) => Self::new(ResultReason::FEATURE_NOT_SUPPORTED, error.to_string()),
            Error::Away(_)
            | Error::Binding { .. }
            | Error::Disturbed
            | Error::IdTaken
            | Error::Late
            | Error::Unsettled { .. } => Self::new(ResultReason::GENERAL_FAILURE, error.to_string()),
        }
    }
}

/// What a return value is in KMIP. Only reasons that the first client's library knows.
fn reason_for(rv: RvError) -> ResultReason {
    use ResultReason as R;
    match rv {
        RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => R::ITEM_NOT_FOUND,
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized
        | RvError::UserTypeInvalid => R::AUTHENTICATION_NOT_SUCCESSFUL,
        RvError::ActionProhibited
        | RvError::AttributeReadOnly
        | RvError::AttributeSensitive
        | RvError::FunctionRejected
        | RvError::InformationSensitive
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyUnextractable
        | RvError::TokenWriteProtected
        | RvError::SessionReadOnly
        | OPERATION_NOT_VALIDATED => R::PERMISSION_DENIED,
        RvError::AttributeTypeInvalid
        | RvError::AttributeValueInvalid
        | RvError::CurveNotSupported
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::DomainParamsInvalid
        | RvError::KeySizeRange
        | RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::TemplateIncomplete
        | RvError::TemplateInconsistent
        | PARAMETER_SET_NOT_SUPPORTED => R::INVALID_FIELD,
        RvError::FunctionNotSupported | RvError::RandomNoRng => R::FEATURE_NOT_SUPPORTED,
        RvError::KeyTypeInconsistent => R::ILLEGAL_OPERATION,
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::FunctionCanceled
        | RvError::FipsSelfTestFailed
        | RvError::DeviceMemory => R::CRYPTOGRAPHIC_FAILURE,
        _ => R::GENERAL_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hsm_failure_is_never_taken_for_a_missing_object() {
        for rv in [RvError::DeviceError, RvError::DeviceRemoved, RvError::SessionHandleInvalid, RvError::GeneralError] {
            let failure = Failure::from(Error::Call { function: "C_FindObjects", rv });
            assert_ne!(failure.reason, ResultReason::ITEM_NOT_FOUND);
            assert!(failure.message.contains("C_FindObjects"), "{failure}");
        }
    }
}
