//! The names of the standard: a `CKR_*` and its number for each return value, a `C_*` for each function called here.
#![forbid(unsafe_code)]

use cryptoki::context::Function;
use cryptoki::error::RvError;

/// The token's resources are used up.
pub const TOKEN_RESOURCE_EXCEEDED: RvError = RvError::UnknownErrorCode(0x201);
/// What was under way in the session still is.
pub const OPERATION_CANCEL_FAILED: RvError = RvError::UnknownErrorCode(0x202);
/// The operation goes on, in a session that was not asked to be asynchronous.
pub const PENDING: RvError = RvError::UnknownErrorCode(0x204);
/// The token's policy forbids it.
pub const OPERATION_NOT_VALIDATED: RvError = RvError::UnknownErrorCode(0x207);
/// There is no token until it is initialised.
pub const TOKEN_NOT_INITIALIZED: RvError = RvError::UnknownErrorCode(0x208);
/// The token has the mechanism but not these parameters of it.
pub const PARAMETER_SET_NOT_SUPPORTED: RvError = RvError::UnknownErrorCode(0x209);

/// The return values of PKCS#11 3.0 to 3.2 that the binding has no names for.
const OF_LATER_VERSIONS: [(u32, &str); 9] = [
    (0x201, "CKR_TOKEN_RESOURCE_EXCEEDED"),
    (0x202, "CKR_OPERATION_CANCEL_FAILED"),
    (0x203, "CKR_KEY_EXHAUSTED"),
    (0x204, "CKR_PENDING"),
    (0x205, "CKR_SESSION_ASYNC_NOT_SUPPORTED"),
    (0x206, "CKR_SEED_RANDOM_REQUIRED"),
    (0x207, "CKR_OPERATION_NOT_VALIDATED"),
    (0x208, "CKR_TOKEN_NOT_INITIALIZED"),
    (0x209, "CKR_PARAMETER_SET_NOT_SUPPORTED"),
];

/// The name and the number of a return value (PKCS#11 3.2, `pkcs11t.h`).
// CK_RV has the width of the platform's unsigned long.
#[allow(clippy::useless_conversion)]
pub fn rv_name(rv: RvError) -> (&'static str, u64) {
    match rv {
        RvError::Cancel => ("CKR_CANCEL", 0x1),
        RvError::HostMemory => ("CKR_HOST_MEMORY", 0x2),
        RvError::SlotIdInvalid => ("CKR_SLOT_ID_INVALID", 0x3),
        RvError::GeneralError => ("CKR_GENERAL_ERROR", 0x5),
        RvError::FunctionFailed => ("CKR_FUNCTION_FAILED", 0x6),
        RvError::ArgumentsBad => ("CKR_ARGUMENTS_BAD", 0x7),
        RvError::NoEvent => ("CKR_NO_EVENT", 0x8),
        RvError::NeedToCreateThreads => ("CKR_NEED_TO_CREATE_THREADS", 0x9),
        RvError::CantLock => ("CKR_CANT_LOCK", 0xa),
        RvError::AttributeReadOnly => ("CKR_ATTRIBUTE_READ_ONLY", 0x10),
        RvError::AttributeSensitive => ("CKR_ATTRIBUTE_SENSITIVE", 0x11),
        RvError::AttributeTypeInvalid => ("CKR_ATTRIBUTE_TYPE_INVALID", 0x12),
        RvError::AttributeValueInvalid => ("CKR_ATTRIBUTE_VALUE_INVALID", 0x13),
        RvError::ActionProhibited => ("CKR_ACTION_PROHIBITED", 0x1b),
        RvError::DataInvalid => ("CKR_DATA_INVALID", 0x20),
        RvError::DataLenRange => ("CKR_DATA_LEN_RANGE", 0x21),
        RvError::DeviceError => ("CKR_DEVICE_ERROR", 0x30),
        RvError::DeviceMemory => ("CKR_DEVICE_MEMORY", 0x31),
        RvError::DeviceRemoved => ("CKR_DEVICE_REMOVED", 0x32),
        RvError::EncryptedDataInvalid => ("CKR_ENCRYPTED_DATA_INVALID", 0x40),
        RvError::EncryptedDataLenRange => ("CKR_ENCRYPTED_DATA_LEN_RANGE", 0x41),
        RvError::FunctionCanceled => ("CKR_FUNCTION_CANCELED", 0x50),
        RvError::FunctionNotParallel => ("CKR_FUNCTION_NOT_PARALLEL", 0x51),
        RvError::FunctionNotSupported => ("CKR_FUNCTION_NOT_SUPPORTED", 0x54),
        RvError::KeyHandleInvalid => ("CKR_KEY_HANDLE_INVALID", 0x60),
        RvError::KeySizeRange => ("CKR_KEY_SIZE_RANGE", 0x62),
        RvError::KeyTypeInconsistent => ("CKR_KEY_TYPE_INCONSISTENT", 0x63),
        RvError::KeyNotNeeded => ("CKR_KEY_NOT_NEEDED", 0x64),
        RvError::KeyChanged => ("CKR_KEY_CHANGED", 0x65),
        RvError::KeyNeeded => ("CKR_KEY_NEEDED", 0x66),
        RvError::KeyIndigestible => ("CKR_KEY_INDIGESTIBLE", 0x67),
        RvError::KeyFunctionNotPermitted => ("CKR_KEY_FUNCTION_NOT_PERMITTED", 0x68),
        RvError::KeyNotWrappable => ("CKR_KEY_NOT_WRAPPABLE", 0x69),
        RvError::KeyUnextractable => ("CKR_KEY_UNEXTRACTABLE", 0x6a),
        RvError::MechanismInvalid => ("CKR_MECHANISM_INVALID", 0x70),
        RvError::MechanismParamInvalid => ("CKR_MECHANISM_PARAM_INVALID", 0x71),
        RvError::ObjectHandleInvalid => ("CKR_OBJECT_HANDLE_INVALID", 0x82),
        RvError::OperationActive => ("CKR_OPERATION_ACTIVE", 0x90),
        RvError::OperationNotInitialized => ("CKR_OPERATION_NOT_INITIALIZED", 0x91),
        RvError::PinIncorrect => ("CKR_PIN_INCORRECT", 0xa0),
        RvError::PinInvalid => ("CKR_PIN_INVALID", 0xa1),
        RvError::PinLenRange => ("CKR_PIN_LEN_RANGE", 0xa2),
        RvError::PinExpired => ("CKR_PIN_EXPIRED", 0xa3),
        RvError::PinLocked => ("CKR_PIN_LOCKED", 0xa4),
        RvError::SessionClosed => ("CKR_SESSION_CLOSED", 0xb0),
        RvError::SessionCount => ("CKR_SESSION_COUNT", 0xb1),
        RvError::SessionHandleInvalid => ("CKR_SESSION_HANDLE_INVALID", 0xb3),
        RvError::SessionParallelNotSupported => ("CKR_SESSION_PARALLEL_NOT_SUPPORTED", 0xb4),
        RvError::SessionReadOnly => ("CKR_SESSION_READ_ONLY", 0xb5),
        RvError::SessionExists => ("CKR_SESSION_EXISTS", 0xb6),
        RvError::SessionReadOnlyExists => ("CKR_SESSION_READ_ONLY_EXISTS", 0xb7),
        RvError::SessionReadWriteSoExists => ("CKR_SESSION_READ_WRITE_SO_EXISTS", 0xb8),
        RvError::SignatureInvalid => ("CKR_SIGNATURE_INVALID", 0xc0),
        RvError::SignatureLenRange => ("CKR_SIGNATURE_LEN_RANGE", 0xc1),
        RvError::TemplateIncomplete => ("CKR_TEMPLATE_INCOMPLETE", 0xd0),
        RvError::TemplateInconsistent => ("CKR_TEMPLATE_INCONSISTENT", 0xd1),
        RvError::TokenNotPresent => ("CKR_TOKEN_NOT_PRESENT", 0xe0),
        RvError::TokenNotRecognized => ("CKR_TOKEN_NOT_RECOGNIZED", 0xe1),
        RvError::TokenWriteProtected => ("CKR_TOKEN_WRITE_PROTECTED", 0xe2),
        RvError::UnwrappingKeyHandleInvalid => ("CKR_UNWRAPPING_KEY_HANDLE_INVALID", 0xf0),
        RvError::UnwrappingKeySizeRange => ("CKR_UNWRAPPING_KEY_SIZE_RANGE", 0xf1),
        RvError::UnwrappingKeyTypeInconsistent => ("CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", 0xf2),
        RvError::UserAlreadyLoggedIn => ("CKR_USER_ALREADY_LOGGED_IN", 0x100),
        RvError::UserNotLoggedIn => ("CKR_USER_NOT_LOGGED_IN", 0x101),
        RvError::UserPinNotInitialized => ("CKR_USER_PIN_NOT_INITIALIZED", 0x102),
        RvError::UserTypeInvalid => ("CKR_USER_TYPE_INVALID", 0x103),
        RvError::UserAnotherAlreadyLoggedIn => ("CKR_USER_ANOTHER_ALREADY_LOGGED_IN", 0x104),
        RvError::UserTooManyTypes => ("CKR_USER_TOO_MANY_TYPES", 0x105),
        RvError::WrappedKeyInvalid => ("CKR_WRAPPED_KEY_INVALID", 0x110),
        RvError::WrappedKeyLenRange => ("CKR_WRAPPED_KEY_LEN_RANGE", 0x112),
        RvError::WrappingKeyHandleInvalid => ("CKR_WRAPPING_KEY_HANDLE_INVALID", 0x113),
        RvError::WrappingKeySizeRange => ("CKR_WRAPPING_KEY_SIZE_RANGE", 0x114),
        RvError::WrappingKeyTypeInconsistent => ("CKR_WRAPPING_KEY_TYPE_INCONSISTENT", 0x115),
        RvError::RandomSeedNotSupported => ("CKR_RANDOM_SEED_NOT_SUPPORTED", 0x120),
        RvError::RandomNoRng => ("CKR_RANDOM_NO_RNG", 0x121),
        RvError::DomainParamsInvalid => ("CKR_DOMAIN_PARAMS_INVALID", 0x130),
        RvError::CurveNotSupported => ("CKR_CURVE_NOT_SUPPORTED", 0x140),
        RvError::BufferTooSmall => ("CKR_BUFFER_TOO_SMALL", 0x150),
        RvError::SavedStateInvalid => ("CKR_SAVED_STATE_INVALID", 0x160),
        RvError::InformationSensitive => ("CKR_INFORMATION_SENSITIVE", 0x170),
        RvError::StateUnsaveable => ("CKR_STATE_UNSAVEABLE", 0x180),
        RvError::CryptokiNotInitialized => ("CKR_CRYPTOKI_NOT_INITIALIZED", 0x190),
        RvError::CryptokiAlreadyInitialized => ("CKR_CRYPTOKI_ALREADY_INITIALIZED", 0x191),
        RvError::MutexBad => ("CKR_MUTEX_BAD", 0x1a0),
        RvError::MutexNotLocked => ("CKR_MUTEX_NOT_LOCKED", 0x1a1),
        RvError::NewPinMode => ("CKR_NEW_PIN_MODE", 0x1b0),
        RvError::NextOtp => ("CKR_NEXT_OTP", 0x1b1),
        RvError::ExceededMaxIterations => ("CKR_EXCEEDED_MAX_ITERATIONS", 0x1b5),
        RvError::FipsSelfTestFailed => ("CKR_FIPS_SELF_TEST_FAILED", 0x1b6),
        RvError::LibraryLoadFailed => ("CKR_LIBRARY_LOAD_FAILED", 0x1b7),
        RvError::PinTooWeak => ("CKR_PIN_TOO_WEAK", 0x1b8),
        RvError::PublicKeyInvalid => ("CKR_PUBLIC_KEY_INVALID", 0x1b9),
        RvError::FunctionRejected => ("CKR_FUNCTION_REJECTED", 0x200),
        RvError::VendorDefined(code) => ("CKR_VENDOR_DEFINED", u64::from(code)),
        RvError::UnknownErrorCode(code) => {
            let known = OF_LATER_VERSIONS.iter().find(|(number, _)| u64::from(*number) == u64::from(code));
            (known.map_or("unknown return value", |(_, name)| *name), u64::from(code))
        }
    }
}

/// The name of a function; those that are never called from here share one.
pub(super) fn function_name(function: Function) -> &'static str {
    match function {
        Function::CloseSession => "C_CloseSession",
        Function::CreateObject => "C_CreateObject",
        Function::DestroyObject => "C_DestroyObject",
        Function::Finalize => "C_Finalize",
        Function::FindObjects => "C_FindObjects",
        Function::FindObjectsFinal => "C_FindObjectsFinal",
        Function::FindObjectsInit => "C_FindObjectsInit",
        Function::GenerateKeyPair => "C_GenerateKeyPair",
        Function::GenerateRandom => "C_GenerateRandom",
        Function::GetAttributeValue => "C_GetAttributeValue",
        Function::GetFunctionList => "C_GetFunctionList",
        Function::GetInfo => "C_GetInfo",
        Function::GetInterface => "C_GetInterface",
        Function::GetMechanismInfo => "C_GetMechanismInfo",
        Function::GetMechanismList => "C_GetMechanismList",
        Function::GetSlotList => "C_GetSlotList",
        Function::GetTokenInfo => "C_GetTokenInfo",
        Function::Initialize => "C_Initialize",
        Function::Login => "C_Login",
        Function::Logout => "C_Logout",
        Function::OpenSession => "C_OpenSession",
        Function::SetAttributeValue => "C_SetAttributeValue",
        Function::Sign => "C_Sign",
        Function::SignFinal => "C_SignFinal",
        Function::SignInit => "C_SignInit",
        Function::SignUpdate => "C_SignUpdate",
        Function::Verify => "C_Verify",
        Function::VerifyInit => "C_VerifyInit",
        _ => "another PKCS#11 function",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::Rv;

    /// `CryptokiNotInitialized` as `CKR_CRYPTOKI_NOT_INITIALIZED`.
    fn spelt_out(rv: RvError) -> String {
        let mut name = String::from("CKR");
        for letter in format!("{rv:?}").chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    #[test]
    #[allow(clippy::useless_conversion)]
    fn names_and_numbers_agree_with_the_binding() {
        let mut seen = 0;
        for number in 1..0x400 {
            let Rv::Error(rv) = Rv::from(number) else { panic!("{number:#x} is not an error") };
            if matches!(rv, RvError::UnknownErrorCode(_)) {
                continue;
            }
            assert_eq!(rv_name(rv), (spelt_out(rv).as_str(), u64::from(number)));
            seen += 1;
        }
        assert_eq!(seen, 93);
    }

    #[test]
    #[allow(clippy::useless_conversion)]
    fn what_the_binding_has_no_name_for_has_that_of_the_standard() {
        for (number, name) in OF_LATER_VERSIONS {
            // Should the binding come to know it, this table has to lose it.
            let unknown = Rv::from(std::ffi::c_ulong::from(number));
            assert_eq!(unknown, Rv::Error(RvError::UnknownErrorCode(number.into())));
            let Rv::Error(rv) = unknown else { panic!("{number:#x} is not an error") };
            assert_eq!(rv_name(rv), (name, u64::from(number)));
        }
        for (rv, name) in [
            (TOKEN_RESOURCE_EXCEEDED, "CKR_TOKEN_RESOURCE_EXCEEDED"),
            (OPERATION_CANCEL_FAILED, "CKR_OPERATION_CANCEL_FAILED"),
            (PENDING, "CKR_PENDING"),
            (OPERATION_NOT_VALIDATED, "CKR_OPERATION_NOT_VALIDATED"),
            (TOKEN_NOT_INITIALIZED, "CKR_TOKEN_NOT_INITIALIZED"),
            (PARAMETER_SET_NOT_SUPPORTED, "CKR_PARAMETER_SET_NOT_SUPPORTED"),
        ] {
            assert_eq!(rv_name(rv).0, name);
        }
    }

    #[test]
    fn numbers_of_vendors_are_kept() {
        assert_eq!(rv_name(RvError::VendorDefined(0x8000_0123)), ("CKR_VENDOR_DEFINED", 0x8000_0123));
        assert_eq!(rv_name(RvError::UnknownErrorCode(0x9)), ("unknown return value", 9));
    }

    #[test]
    fn functions_have_their_standard_names() {
        for function in [Function::Sign, Function::GenerateKeyPair, Function::GetAttributeValue, Function::Login] {
            assert_eq!(function_name(function), format!("C_{function:?}"));
        }
    }
}
