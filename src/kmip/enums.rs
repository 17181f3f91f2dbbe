//! Enumerations and masks (KMIP 1.2, section 9.1.3.2 and 9.1.3.3; those of 1.3 and 1.4 that are used here).
//!
//! Each is a number with names for those that this program knows: an unknown number survives decoding and is refused where its
//! meaning is needed.
#![forbid(unsafe_code)]

use std::fmt;

macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($item:ident = $value:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            $(
                #[doc = $text]
                pub const $item: Self = Self($value);
            )*

            /// Every number that has a name here, with that name as the specification spells it.
            pub const NAMED: &[(Self, &str)] = &[$((Self::$item, $text),)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match Self::NAMED.iter().find(|(value, _)| value == self) {
                    Some((_, name)) => f.write_str(name),
                    None => write!(f, "{:08X}", self.0),
                }
            }
        }
    };
}

enumeration! {
    /// What a batch item asks for (9.1.3.2.27).
    Operation {
        CREATE = 0x01, "Create";
        CREATE_KEY_PAIR = 0x02, "Create Key Pair";
        REGISTER = 0x03, "Register";
        RE_KEY = 0x04, "Re-key";
        DERIVE_KEY = 0x05, "Derive Key";
        CERTIFY = 0x06, "Certify";
        RE_CERTIFY = 0x07, "Re-certify";
        LOCATE = 0x08, "Locate";
        CHECK = 0x09, "Check";
        GET = 0x0a, "Get";
        GET_ATTRIBUTES = 0x0b, "Get Attributes";
        GET_ATTRIBUTE_LIST = 0x0c, "Get Attribute List";
        ADD_ATTRIBUTE = 0x0d, "Add Attribute";
        MODIFY_ATTRIBUTE = 0x0e, "Modify Attribute";
        DELETE_ATTRIBUTE = 0x0f, "Delete Attribute";
        OBTAIN_LEASE = 0x10, "Obtain Lease";
        GET_USAGE_ALLOCATION = 0x11, "Get Usage Allocation";
        ACTIVATE = 0x12, "Activate";
        REVOKE = 0x13, "Revoke";
        DESTROY = 0x14, "Destroy";
        ARCHIVE = 0x15, "Archive";
        RECOVER = 0x16, "Recover";
        VALIDATE = 0x17, "Validate";
        QUERY = 0x18, "Query";
        CANCEL = 0x19, "Cancel";
        POLL = 0x1a, "Poll";
        NOTIFY = 0x1b, "Notify";
        PUT = 0x1c, "Put";
        RE_KEY_KEY_PAIR = 0x1d, "Re-key Key Pair";
        DISCOVER_VERSIONS = 0x1e, "Discover Versions";
        ENCRYPT = 0x1f, "Encrypt";
        DECRYPT = 0x20, "Decrypt";
        SIGN = 0x21, "Sign";
        SIGNATURE_VERIFY = 0x22, "Signature Verify";
        MAC = 0x23, "MAC";
        MAC_VERIFY = 0x24, "MAC Verify";
        RNG_RETRIEVE = 0x25, "RNG Retrieve";
        RNG_SEED = 0x26, "RNG Seed";
        HASH = 0x27, "Hash";
        CREATE_SPLIT_KEY = 0x28, "Create Split Key";
        JOIN_SPLIT_KEY = 0x29, "Join Split Key";
        IMPORT = 0x2a, "Import";
        EXPORT = 0x2b, "Export";
    }
}

enumeration! {
    /// What kind of object (9.1.3.2.12).
    ObjectType {
        CERTIFICATE = 0x01, "Certificate";
        SYMMETRIC_KEY = 0x02, "Symmetric Key";
        PUBLIC_KEY = 0x03, "Public Key";
        PRIVATE_KEY = 0x04, "Private Key";
        SPLIT_KEY = 0x05, "Split Key";
        TEMPLATE = 0x06, "Template";
        SECRET_DATA = 0x07, "Secret Data";
        OPAQUE_OBJECT = 0x08, "Opaque Object";
        PGP_KEY = 0x09, "PGP Key";
    }
}

enumeration! {
    /// How a batch item ended (9.1.3.2.28).
    ResultStatus {
        SUCCESS = 0x00, "Success";
        OPERATION_FAILED = 0x01, "Operation Failed";
        OPERATION_PENDING = 0x02, "Operation Pending";
        OPERATION_UNDONE = 0x03, "Operation Undone";
    }
}

enumeration! {
    /// Why a batch item failed (9.1.3.2.29). The first client's library knows 1 to 11 (hexadecimal) and 100: others are not used
    /// here.
    ResultReason {
        ITEM_NOT_FOUND = 0x01, "Item Not Found";
        RESPONSE_TOO_LARGE = 0x02, "Response Too Large";
        AUTHENTICATION_NOT_SUCCESSFUL = 0x03, "Authentication Not Successful";
        INVALID_MESSAGE = 0x04, "Invalid Message";
        OPERATION_NOT_SUPPORTED = 0x05, "Operation Not Supported";
        MISSING_DATA = 0x06, "Missing Data";
        INVALID_FIELD = 0x07, "Invalid Field";
        FEATURE_NOT_SUPPORTED = 0x08, "Feature Not Supported";
        OPERATION_CANCELED_BY_REQUESTER = 0x09, "Operation Canceled By Requester";
        CRYPTOGRAPHIC_FAILURE = 0x0a, "Cryptographic Failure";
        ILLEGAL_OPERATION = 0x0b, "Illegal Operation";
        PERMISSION_DENIED = 0x0c, "Permission Denied";
        OBJECT_ARCHIVED = 0x0d, "Object archived";
        INDEX_OUT_OF_BOUNDS = 0x0e, "Index Out of Bounds";
        APPLICATION_NAMESPACE_NOT_SUPPORTED = 0x0f, "Application Namespace Not Supported";
        KEY_FORMAT_TYPE_NOT_SUPPORTED = 0x10, "Key Format Type Not Supported";
        KEY_COMPRESSION_TYPE_NOT_SUPPORTED = 0x11, "Key Compression Type Not Supported";
        GENERAL_FAILURE = 0x100, "General Failure";
    }
}

enumeration! {
    /// How a client proves itself (9.1.3.2.1).
    CredentialType {
        USERNAME_AND_PASSWORD = 0x01, "Username and Password";
        DEVICE = 0x02, "Device";
        ATTESTATION = 0x03, "Attestation";
    }
}

enumeration! {
    /// What becomes of a batch when an item fails (9.1.3.2.30).
    BatchErrorContinuation {
        CONTINUE = 0x01, "Continue";
        STOP = 0x02, "Stop";
        UNDO = 0x03, "Undo";
    }
}

enumeration! {
    /// Algorithms of keys (9.1.3.2.13). KMIP 1.x has no numbers for the Edwards curves: the last two are those of KMIP 2.0,
    /// taken from clients that send them.
    CryptographicAlgorithm {
        RSA = 0x04, "RSA";
        ECDSA = 0x06, "ECDSA";
        EC = 0x1a, "EC";
        ED25519 = 0x37, "Ed25519";
        ED448 = 0x38, "Ed448";
    }
}

enumeration! {
    /// Curves (9.1.3.2.5). The last two have numbers only since KMIP 2.0.
    RecommendedCurve {
        P_256 = 0x07, "P-256";
        P_384 = 0x0a, "P-384";
        P_521 = 0x0d, "P-521";
        CURVE25519 = 0x45, "CURVE25519";
        CURVE448 = 0x46, "CURVE448";
    }
}

enumeration! {
    /// Hash functions (9.1.3.2.16).
    HashingAlgorithm {
        SHA_1 = 0x04, "SHA-1";
        SHA_256 = 0x06, "SHA-256";
        SHA_384 = 0x07, "SHA-384";
        SHA_512 = 0x08, "SHA-512";
    }
}

enumeration! {
    /// Paddings (9.1.3.2.15).
    PaddingMethod {
        NONE = 0x01, "None";
        PKCS1_V1_5 = 0x08, "PKCS1 v1.5";
        PSS = 0x0a, "PSS";
    }
}

enumeration! {
    /// Signature schemes that name hash and padding at once (9.1.3.2.7).
    DigitalSignatureAlgorithm {
        SHA_1_WITH_RSA = 0x03, "SHA-1 with RSA Encryption (PKCS#1 v1.5)";
        SHA_256_WITH_RSA = 0x05, "SHA-256 with RSA Encryption (PKCS#1 v1.5)";
        SHA_384_WITH_RSA = 0x06, "SHA-384 with RSA Encryption (PKCS#1 v1.5)";
        SHA_512_WITH_RSA = 0x07, "SHA-512 with RSA Encryption (PKCS#1 v1.5)";
        RSASSA_PSS = 0x08, "RSASSA-PSS (PKCS#1 v2.1)";
        ECDSA_WITH_SHA_1 = 0x0c, "ECDSA with SHA-1";
        ECDSA_WITH_SHA256 = 0x0e, "ECDSA with SHA256";
        ECDSA_WITH_SHA384 = 0x0f, "ECDSA with SHA384";
        ECDSA_WITH_SHA512 = 0x10, "ECDSA with SHA512";
    }
}

enumeration! {
    /// Mask generators of PSS (1.4, 9.1.3.2.53).
    MaskGenerator {
        MGF1 = 0x01, "MGF1";
    }
}

enumeration! {
    /// Kinds of random number generators (1.3, 9.1.3.2.36).
    RngAlgorithm {
        UNSPECIFIED = 0x01, "Unspecified";
    }
}

enumeration! {
    /// Encodings of key material (9.1.3.2.3; the last is of 1.3).
    KeyFormatType {
        RAW = 0x01, "Raw";
        PKCS_1 = 0x03, "PKCS#1";
        X_509 = 0x05, "X.509";
        TRANSPARENT_RSA_PUBLIC_KEY = 0x0b, "Transparent RSA Public Key";
        TRANSPARENT_ECDSA_PUBLIC_KEY = 0x0f, "Transparent ECDSA Public Key";
        TRANSPARENT_EC_PUBLIC_KEY = 0x15, "Transparent EC Public Key";
    }
}

enumeration! {
    /// How a name is meant (9.1.3.2.11).
    NameType {
        UNINTERPRETED_TEXT_STRING = 0x01, "Uninterpreted Text String";
        URI = 0x02, "URI";
    }
}

enumeration! {
    /// Where an object is in its life (9.1.3.2.18).
    State {
        PRE_ACTIVE = 0x01, "Pre-Active";
        ACTIVE = 0x02, "Active";
        DEACTIVATED = 0x03, "Deactivated";
        COMPROMISED = 0x04, "Compromised";
        DESTROYED = 0x05, "Destroyed";
        DESTROYED_COMPROMISED = 0x06, "Destroyed Compromised";
    }
}

enumeration! {
    /// How objects belong together (9.1.3.2.20).
    LinkType {
        PUBLIC_KEY_LINK = 0x102, "Public Key Link";
        PRIVATE_KEY_LINK = 0x103, "Private Key Link";
    }
}

enumeration! {
    /// What Query asks (9.1.3.2.24; from RNGs on of 1.3).
    QueryFunction {
        OPERATIONS = 0x01, "Query Operations";
        OBJECTS = 0x02, "Query Objects";
        SERVER_INFORMATION = 0x03, "Query Server Information";
        APPLICATION_NAMESPACES = 0x04, "Query Application Namespaces";
        EXTENSION_LIST = 0x05, "Query Extension List";
        EXTENSION_MAP = 0x06, "Query Extension Map";
        ATTESTATION_TYPES = 0x07, "Query Attestation Types";
        RNGS = 0x08, "Query RNGs";
        VALIDATIONS = 0x09, "Query Validations";
        PROFILES = 0x0a, "Query Profiles";
        CAPABILITIES = 0x0b, "Query Capabilities";
        CLIENT_REGISTRATION_METHODS = 0x0c, "Query Client Registration Methods";
    }
}

enumeration! {
    /// Why a client revokes (9.1.3.2.19).
    RevocationReasonCode {
        UNSPECIFIED = 0x01, "Unspecified";
        KEY_COMPROMISE = 0x02, "Key Compromise";
        CA_COMPROMISE = 0x03, "CA Compromise";
        AFFILIATION_CHANGED = 0x04, "Affiliation Changed";
        SUPERSEDED = 0x05, "Superseded";
        CESSATION_OF_OPERATION = 0x06, "Cessation of Operation";
        PRIVILEGE_WITHDRAWN = 0x07, "Privilege Withdrawn";
    }
}

enumeration! {
    /// Whether a signature is good (9.1.3.2.23).
    ValidityIndicator {
        VALID = 0x01, "Valid";
        INVALID = 0x02, "Invalid";
        UNKNOWN = 0x03, "Unknown";
    }
}

enumeration! {
    /// What a key may be used for, a bit each (9.1.3.3.1).
    UsageMask {
        SIGN = 0x01, "Sign";
        VERIFY = 0x02, "Verify";
        ENCRYPT = 0x04, "Encrypt";
        DECRYPT = 0x08, "Decrypt";
        WRAP_KEY = 0x10, "Wrap Key";
        UNWRAP_KEY = 0x20, "Unwrap Key";
        DERIVE_KEY = 0x200, "Derive Key";
    }
}

enumeration! {
    /// Where Locate looks, a bit each (9.1.3.3.2).
    StorageStatusMask {
        ON_LINE_STORAGE = 0x01, "On-line storage";
        ARCHIVAL_STORAGE = 0x02, "Archival storage";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_are_kept_and_shown_as_such() {
        assert_eq!(Operation(0x8000_0001).to_string(), "80000001");
        assert_eq!(Operation::GET.to_string(), "Get");
    }

    #[test]
    fn no_number_has_two_names() {
        for (position, (value, _)) in Operation::NAMED.iter().enumerate() {
            assert!(!Operation::NAMED[..position].iter().any(|(other, _)| other == value));
        }
        assert_eq!(Operation::NAMED.len(), 43);
    }

    /// The named numbers against the tables derived from the specifications, where those are at hand.
    #[test]
    fn numbers_agree_with_the_specification_tables() {
        let read = |name| std::fs::read_to_string(format!("{}/../shared/kmip/{name}", env!("CARGO_MANIFEST_DIR")));
        let (Ok(enumerations), Ok(masks)) = (read("enums.tsv"), read("masks.tsv")) else {
            eprintln!("skipped: no specification tables beside the project");
            return;
        };
        let table = enumerations + &masks;
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        let check = |enumeration: &str, named: Vec<(u32, &str)>| {
            for (value, name) in named {
                let hex = format!("{value:08X}");
                let row = rows.iter().find(|row| row[0] == enumeration && row[1] == hex);
                assert_eq!(row.map(|row| row[3]), Some(name), "{enumeration} {hex}");
            }
        };
        macro_rules! agree {
            ($($name:ident as $table:literal,)*) => {
                $(check($table, $name::NAMED.iter().map(|(value, name)| (value.0, *name)).collect());)*
            };
        }
        agree! {
            Operation as "Operation", ObjectType as "ObjectType", ResultStatus as "ResultStatus",
            ResultReason as "ResultReason", CredentialType as "CredentialType",
            BatchErrorContinuation as "BatchErrorContinuationOption", HashingAlgorithm as "HashingAlgorithm",
            DigitalSignatureAlgorithm as "DigitalSignatureAlgorithm", MaskGenerator as "MaskGenerator",
            RngAlgorithm as "RNGAlgorithm", PaddingMethod as "PaddingMethod", KeyFormatType as "KeyFormatType", NameType as "NameType", State as "State",
            LinkType as "LinkType", QueryFunction as "QueryFunction", RevocationReasonCode as "RevocationReasonCode",
            ValidityIndicator as "ValidityIndicator", UsageMask as "CryptographicUsageMask",
            StorageStatusMask as "StorageStatusMask",
        }
        let until_edwards = CryptographicAlgorithm::NAMED.iter().take(3);
        check("CryptographicAlgorithm", until_edwards.map(|(value, name)| (value.0, *name)).collect());
        let nist = RecommendedCurve::NAMED.iter().take(3);
        check("RecommendedCurve", nist.map(|(value, name)| (value.0, *name)).collect());
    }
}
