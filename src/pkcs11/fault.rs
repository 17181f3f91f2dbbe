//! CKR_* -> what is broken: the one table that repair goes by.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;

use super::rv::{OPERATION_CANCEL_FAILED, PENDING, TOKEN_NOT_INITIALIZED, TOKEN_RESOURCE_EXCEEDED};

/// What a return value says is broken, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request is wrong, or refused: nothing is to be repaired.
    Request,
    /// The HSM has no room now: waiting helps.
    Busy,
    /// The object handle is stale: the object has to be found anew.
    Handle,
    /// The session is lost, or in the middle of something: another one is needed.
    Session,
    /// The login is lost: the token has to be logged in to anew.
    Login,
    /// The token is gone: nothing helps until it is back.
    Token,
    /// The module is broken, or says so: a new session may help, else it has to be initialised anew.
    Module,
}

impl Fault {
    /// What is broken when a call returns `rv`.
    pub fn of(rv: RvError) -> Self {
        match rv {
            RvError::HostMemory | RvError::DeviceMemory | RvError::SessionCount | TOKEN_RESOURCE_EXCEEDED => Self::Busy,
            RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::UnwrappingKeyHandleInvalid
            | RvError::WrappingKeyHandleInvalid => Self::Handle,
            // An operation that was begun, canceled, put off or forgotten under us belongs to the session: another has none.
            RvError::FunctionCanceled
            | RvError::OperationActive
            | RvError::OperationNotInitialized
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | OPERATION_CANCEL_FAILED
            | PENDING => Self::Session,
            RvError::UserNotLoggedIn => Self::Login,
            RvError::DeviceRemoved
            | RvError::SlotIdInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | TOKEN_NOT_INITIALIZED => Self::Token,
            // The second to fourth say "something is wrong" and no more: p11-kit and tpm2-pkcs11 answer so to everything once their
            // other end was away, and other modules to a template they do not like.
            RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::FunctionFailed
            | RvError::GeneralError
            | RvError::LibraryLoadFailed
            | RvError::MutexBad
            | RvError::MutexNotLocked => Self::Module,
            RvError::ActionProhibited
            | RvError::ArgumentsBad
            | RvError::AttributeReadOnly
            | RvError::AttributeSensitive
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::BufferTooSmall
            | RvError::Cancel
            | RvError::CantLock
            | RvError::CryptokiAlreadyInitialized
            | RvError::CurveNotSupported
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::DomainParamsInvalid
            | RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::ExceededMaxIterations
            | RvError::FipsSelfTestFailed
            | RvError::FunctionNotParallel
            | RvError::FunctionNotSupported
            | RvError::FunctionRejected
            | RvError::InformationSensitive
            | RvError::KeyChanged
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyIndigestible
            | RvError::KeyNeeded
            | RvError::KeyNotNeeded
            | RvError::KeyNotWrappable
            | RvError::KeySizeRange
            | RvError::KeyTypeInconsistent
            | RvError::KeyUnextractable
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::NeedToCreateThreads
            | RvError::NewPinMode
            | RvError::NextOtp
            | RvError::NoEvent
            | RvError::PinExpired
            | RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked
            | RvError::PinTooWeak
            | RvError::PublicKeyInvalid
            | RvError::RandomNoRng
            | RvError::RandomSeedNotSupported
            | RvError::SavedStateInvalid
            | RvError::SessionExists
            | RvError::SessionParallelNotSupported
            | RvError::SessionReadOnly
            | RvError::SessionReadOnlyExists
            | RvError::SessionReadWriteSoExists
            | RvError::SignatureInvalid
            | RvError::SignatureLenRange
            | RvError::StateUnsaveable
            | RvError::TemplateIncomplete
            | RvError::TemplateInconsistent
            | RvError::TokenWriteProtected
            | RvError::UnknownErrorCode(_)
            | RvError::UnwrappingKeySizeRange
            | RvError::UnwrappingKeyTypeInconsistent
            | RvError::UserAlreadyLoggedIn
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserPinNotInitialized
            | RvError::UserTooManyTypes
            | RvError::UserTypeInvalid
            | RvError::VendorDefined(_)
            | RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange
            | RvError::WrappingKeySizeRange
            | RvError::WrappingKeyTypeInconsistent => Self::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::Rv;

    #[test]
    fn every_return_value_that_is_not_the_requests_fault_is_listed() {
        let listed = [
            (0x02, Fault::Busy),
            (0x03, Fault::Token),
            (0x05, Fault::Module),
            (0x06, Fault::Module),
            (0x30, Fault::Module),
            (0x31, Fault::Busy),
            (0x32, Fault::Token),
            (0x50, Fault::Session),
            (0x60, Fault::Handle),
            (0x82, Fault::Handle),
            (0x90, Fault::Session),
            (0x91, Fault::Session),
            (0xb0, Fault::Session),
            (0xb1, Fault::Busy),
            (0xb3, Fault::Session),
            (0xe0, Fault::Token),
            (0xe1, Fault::Token),
            (0xf0, Fault::Handle),
            (0x101, Fault::Login),
            (0x113, Fault::Handle),
            (0x190, Fault::Module),
            (0x1a0, Fault::Module),
            (0x1a1, Fault::Module),
            (0x1b7, Fault::Module),
            (0x201, Fault::Busy),
            (0x202, Fault::Session),
            (0x204, Fault::Session),
            (0x208, Fault::Token),
        ];
        for number in 1..0x400 {
            let Rv::Error(rv) = Rv::from(number) else { panic!("{number:#x} is not an error") };
            let expected =
                listed.iter().find(|(listed, _)| *listed == number).map_or(Fault::Request, |(_, fault)| *fault);
            assert_eq!(Fault::of(rv), expected, "{rv:?}");
        }
        assert_eq!(Fault::of(RvError::VendorDefined(0x8000_0001)), Fault::Request);
    }
}
