//! What can go wrong on a token, said in the words of the standard.
#![forbid(unsafe_code)]

use std::fmt;

use cryptoki::error::{Rv, RvError};

use super::fault::Fault;
use super::key::Class;
use super::rv::{function_name, rv_name};

/// Why an operation on a token failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Several objects of the class have the same CKA_ID, so that none of them can be meant.
    Ambiguous {
        /// The class searched.
        class: Class,
    },
    /// The binding could not make or understand a call; no return value of the module is at hand.
    Binding {
        /// What the binding says of it.
        what: String,
    },
    /// The module answered a call with something else than CKR_OK.
    Call {
        /// The function, such as `C_Sign`.
        function: &'static str,
        /// What it returned.
        rv: RvError,
    },
    /// A change was begun, and the HSM failed before it said what became of it.
    Unsettled {
        /// What is known of it, such as `the key pair was not made`.
        outcome: &'static str,
        /// The failure.
        why: Box<Error>,
    },
    /// The token, or the whole HSM, is known to be away; it is tried again every second.
    Away(Box<Error>),
    /// The module is finalized, or about to be.
    Closed,
    /// Sessions or the login were made anew meanwhile: handles may mean others by now, so that what was to be changed by one is not, and
    /// what was read does not count.
    Disturbed,
    /// The token changes no such attribute of its objects.
    Fixed {
        /// The attribute, such as `CKA_LABEL`.
        attribute: &'static str,
    },
    /// Every CKA_ID tried for a new key is in use.
    IdTaken,
    /// Others had the token for so long that it is too late to begin.
    Late,
    /// The key wants a login of its own, and there is no PIN to make it with.
    NoPin,
    /// No session was free within the session timeout.
    NoSession,
    /// No object of the class has the CKA_ID.
    NotFound {
        /// The class searched.
        class: Class,
    },
    /// The token accepted an attribute but holds another value.
    NotTaken {
        /// The attribute, such as `CKA_LABEL`.
        attribute: &'static str,
    },
    /// What was asked for has no meaning here, whatever the token is.
    Unsupported(&'static str),
}

impl Error {
    /// `function`, called without the binding, returned `rv`.
    pub(super) fn returned(function: &'static str, rv: std::ffi::c_ulong) -> Self {
        let Rv::Error(rv) = Rv::from(rv) else {
            return Self::Binding { what: format!("{function} succeeded and failed") };
        };
        Self::Call { function, rv }
    }

    /// The return value, if it was the module that refused.
    pub fn rv(&self) -> Option<RvError> {
        match self {
            Self::Call { rv, .. } => Some(*rv),
            _ => None,
        }
    }

    /// What is broken; a failure that is not the module's breaks nothing.
    pub fn fault(&self) -> Fault {
        self.rv().map_or(Fault::Request, Fault::of)
    }

    /// Whether the module, or the binding on its behalf, failed a call: the session may then still be in the middle of it.
    pub(super) fn is_failed_call(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::Binding { .. })
    }

    /// Whether an object handle no longer names an object.
    pub(super) fn is_stale_handle(&self) -> bool {
        self.fault() == Fault::Handle
    }

    /// Whether there is no such session any more: its handle may name another one by now, which is not to be closed for it.
    pub(super) fn is_lost_session(&self) -> bool {
        matches!(self.rv(), Some(RvError::SessionHandleInvalid | RvError::SessionClosed))
    }

    /// Whether the session is there, but in the middle of something.
    pub(super) fn is_busy_session(&self) -> bool {
        self.fault() == Fault::Session && !self.is_lost_session()
    }

    /// Whether the session, the login or the token is lost, so that nothing else on this session can succeed.
    pub(super) fn is_loss(&self) -> bool {
        match self.fault() {
            Fault::Session | Fault::Login | Fault::Token => true,
            Fault::Module => self.rv() == Some(RvError::CryptokiNotInitialized),
            Fault::Request | Fault::Busy | Fault::Handle => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { class } => write!(f, "several {class} objects have this CKA_ID"),
            Self::Away(why) => write!(f, "the HSM is away: {why}"),
            Self::Binding { what } => write!(f, "the module's answer is not understood: {what}"),
            Self::Call { function, rv } => {
                let (name, number) = rv_name(*rv);
                write!(f, "{function}: {name} ({number:#x})")
            }
            Self::Closed => f.write_str("the PKCS#11 module is shut down"),
            Self::Disturbed => f.write_str("sessions or the login were lost meanwhile, and made anew"),
            Self::Fixed { attribute } => write!(f, "the token does not let {attribute} be changed"),
            Self::IdTaken => f.write_str("every CKA_ID tried for the new key is in use"),
            Self::Late => f.write_str("not begun: others had the token for too long"),
            Self::NoPin => f.write_str("the key wants the token's PIN for each signature, and none is known"),
            Self::NoSession => f.write_str("no session with the token became free in time"),
            Self::NotFound { class } => write!(f, "no {class} object has this CKA_ID"),
            Self::NotTaken { attribute } => write!(f, "the token did not take {attribute} as given"),
            Self::Unsettled { outcome, why } => write!(f, "{why}: {outcome}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<cryptoki::error::Error> for Error {
    fn from(error: cryptoki::error::Error) -> Self {
        match error {
            cryptoki::error::Error::Pkcs11(rv, function) => Self::Call { function: function_name(function), rv },
            other => Self::Binding { what: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    #[test]
    fn says_the_function_and_the_return_value_by_name_and_number() {
        let error = Error::from(cryptoki::error::Error::Pkcs11(RvError::DeviceError, Function::Sign));
        assert_eq!(error.to_string(), "C_Sign: CKR_DEVICE_ERROR (0x30)");
        assert_eq!(error.rv(), Some(RvError::DeviceError));
        let vendor = Error::Call { function: "C_Login", rv: RvError::VendorDefined(0x8000_0001) };
        assert_eq!(vendor.to_string(), "C_Login: CKR_VENDOR_DEFINED (0x80000001)");
    }

    #[test]
    fn keeps_what_the_binding_says() {
        let error = Error::from(cryptoki::error::Error::NullFunctionPointer);
        assert!(matches!(&error, Error::Binding { what } if what.contains("NULL")));
        assert_eq!(error.rv(), None);
    }
}
