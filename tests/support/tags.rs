//! Numbers of KMIP 1.x, by the names of the standard: tags, then the enumerations that the tests use.

pub const ASYNCHRONOUS_INDICATOR: u32 = 0x42_0007;
pub const ATTRIBUTE: u32 = 0x42_0008;
pub const ATTRIBUTE_INDEX: u32 = 0x42_0009;
pub const ATTRIBUTE_NAME: u32 = 0x42_000A;
pub const ATTRIBUTE_VALUE: u32 = 0x42_000B;
pub const AUTHENTICATION: u32 = 0x42_000C;
pub const BATCH_COUNT: u32 = 0x42_000D;
pub const BATCH_ERROR_CONTINUATION_OPTION: u32 = 0x42_000E;
pub const BATCH_ITEM: u32 = 0x42_000F;
pub const BATCH_ORDER_OPTION: u32 = 0x42_0010;
pub const COMMON_TEMPLATE_ATTRIBUTE: u32 = 0x42_001F;
pub const CREDENTIAL: u32 = 0x42_0023;
pub const CREDENTIAL_TYPE: u32 = 0x42_0024;
pub const CREDENTIAL_VALUE: u32 = 0x42_0025;
pub const CRITICALITY_INDICATOR: u32 = 0x42_0026;
pub const CRYPTOGRAPHIC_ALGORITHM: u32 = 0x42_0028;
pub const CRYPTOGRAPHIC_LENGTH: u32 = 0x42_002A;
pub const CRYPTOGRAPHIC_PARAMETERS: u32 = 0x42_002B;
pub const HASHING_ALGORITHM: u32 = 0x42_0038;
pub const KEY_BLOCK: u32 = 0x42_0040;
pub const KEY_FORMAT_TYPE: u32 = 0x42_0042;
pub const KEY_COMPRESSION_TYPE: u32 = 0x42_0041;
pub const KEY_MATERIAL: u32 = 0x42_0043;
pub const KEY_WRAPPING_SPECIFICATION: u32 = 0x42_0047;
pub const NAME: u32 = 0x42_0053;
pub const STORAGE_STATUS_MASK: u32 = 0x42_008E;
pub const MASK_GENERATOR: u32 = 0x42_0101;
pub const TRAILER_FIELD: u32 = 0x42_0104;
pub const KEY_VALUE: u32 = 0x42_0045;
pub const LINK_TYPE: u32 = 0x42_004B;
pub const LINKED_OBJECT_IDENTIFIER: u32 = 0x42_004C;
pub const MAXIMUM_ITEMS: u32 = 0x42_004F;
pub const MAXIMUM_RESPONSE_SIZE: u32 = 0x42_0050;
pub const MESSAGE_EXTENSION: u32 = 0x42_0051;
pub const MODULUS: u32 = 0x42_0052;
pub const NAME_TYPE: u32 = 0x42_0054;
pub const NAME_VALUE: u32 = 0x42_0055;
pub const OBJECT_TYPE: u32 = 0x42_0057;
pub const OFFSET_ITEMS: u32 = 0x42_00D4;
pub const LOCATED_ITEMS: u32 = 0x42_00D5;
pub const CORRELATION_VALUE: u32 = 0x42_00D6;
pub const INIT_INDICATOR: u32 = 0x42_00D7;
pub const FINAL_INDICATOR: u32 = 0x42_00D8;
pub const CAPABILITY_INFORMATION: u32 = 0x42_00F7;
pub const SALT_LENGTH: u32 = 0x42_0100;
pub const DIGESTED_DATA: u32 = 0x42_0107;
pub const OPERATION: u32 = 0x42_005C;
pub const PADDING_METHOD: u32 = 0x42_005F;
pub const PASSWORD: u32 = 0x42_00A1;
pub const PRIVATE_KEY: u32 = 0x42_0064;
pub const PRIVATE_KEY_TEMPLATE_ATTRIBUTE: u32 = 0x42_0065;
pub const PRIVATE_KEY_UNIQUE_IDENTIFIER: u32 = 0x42_0066;
pub const PROTOCOL_VERSION: u32 = 0x42_0069;
pub const PROTOCOL_VERSION_MAJOR: u32 = 0x42_006A;
pub const PROTOCOL_VERSION_MINOR: u32 = 0x42_006B;
pub const PUBLIC_EXPONENT: u32 = 0x42_006C;
pub const PUBLIC_KEY: u32 = 0x42_006D;
pub const PUBLIC_KEY_TEMPLATE_ATTRIBUTE: u32 = 0x42_006E;
pub const PUBLIC_KEY_UNIQUE_IDENTIFIER: u32 = 0x42_006F;
pub const Q_STRING: u32 = 0x42_0072;
pub const QUERY_FUNCTION: u32 = 0x42_0074;
pub const RECOMMENDED_CURVE: u32 = 0x42_0075;
pub const REQUEST_HEADER: u32 = 0x42_0077;
pub const REQUEST_MESSAGE: u32 = 0x42_0078;
pub const REQUEST_PAYLOAD: u32 = 0x42_0079;
pub const RESPONSE_HEADER: u32 = 0x42_007A;
pub const RESPONSE_MESSAGE: u32 = 0x42_007B;
pub const RESPONSE_PAYLOAD: u32 = 0x42_007C;
pub const RESULT_MESSAGE: u32 = 0x42_007D;
pub const RESULT_REASON: u32 = 0x42_007E;
pub const RESULT_STATUS: u32 = 0x42_007F;
pub const REVOCATION_REASON: u32 = 0x42_0081;
pub const REVOCATION_REASON_CODE: u32 = 0x42_0082;
pub const SERVER_INFORMATION: u32 = 0x42_0088;
pub const SIGNATURE_DATA: u32 = 0x42_00C3;
pub const DATA: u32 = 0x42_00C2;
pub const DATA_LENGTH: u32 = 0x42_00C4;
pub const TIME_STAMP: u32 = 0x42_0092;
pub const UNIQUE_BATCH_ITEM_ID: u32 = 0x42_0093;
pub const UNIQUE_IDENTIFIER: u32 = 0x42_0094;
pub const USERNAME: u32 = 0x42_0099;
pub const VALIDITY_INDICATOR: u32 = 0x42_009B;
pub const VENDOR_EXTENSION: u32 = 0x42_009C;
pub const VENDOR_IDENTIFICATION: u32 = 0x42_009D;
pub const CRYPTOGRAPHIC_DOMAIN_PARAMETERS: u32 = 0x42_0029;
pub const DIGITAL_SIGNATURE_ALGORITHM: u32 = 0x42_00AE;

/// Operation.
pub mod operation {
    pub const CREATE: u32 = 0x01;
    pub const CREATE_KEY_PAIR: u32 = 0x02;
    pub const LOCATE: u32 = 0x08;
    pub const GET: u32 = 0x0A;
    pub const GET_ATTRIBUTES: u32 = 0x0B;
    pub const GET_ATTRIBUTE_LIST: u32 = 0x0C;
    pub const MODIFY_ATTRIBUTE: u32 = 0x0E;
    pub const ACTIVATE: u32 = 0x12;
    pub const REVOKE: u32 = 0x13;
    pub const DESTROY: u32 = 0x14;
    pub const QUERY: u32 = 0x18;
    pub const DISCOVER_VERSIONS: u32 = 0x1E;
    pub const SIGN: u32 = 0x21;
    pub const SIGNATURE_VERIFY: u32 = 0x22;
    pub const RNG_RETRIEVE: u32 = 0x25;

    /// What the bridge offers, in the order of their numbers.
    pub const ALL: [u32; 14] = [
        CREATE_KEY_PAIR,
        LOCATE,
        GET,
        GET_ATTRIBUTES,
        GET_ATTRIBUTE_LIST,
        MODIFY_ATTRIBUTE,
        ACTIVATE,
        REVOKE,
        DESTROY,
        QUERY,
        DISCOVER_VERSIONS,
        SIGN,
        SIGNATURE_VERIFY,
        RNG_RETRIEVE,
    ];
}

/// Result Reason.
pub mod reason {
    pub const ITEM_NOT_FOUND: u32 = 0x01;
    pub const RESPONSE_TOO_LARGE: u32 = 0x02;
    pub const AUTHENTICATION_NOT_SUCCESSFUL: u32 = 0x03;
    pub const INVALID_MESSAGE: u32 = 0x04;
    pub const OPERATION_NOT_SUPPORTED: u32 = 0x05;
    pub const INVALID_FIELD: u32 = 0x07;
    pub const FEATURE_NOT_SUPPORTED: u32 = 0x08;
    pub const CRYPTOGRAPHIC_FAILURE: u32 = 0x0A;
    pub const PERMISSION_DENIED: u32 = 0x0C;
    pub const KEY_FORMAT_TYPE_NOT_SUPPORTED: u32 = 0x10;
    pub const KEY_COMPRESSION_TYPE_NOT_SUPPORTED: u32 = 0x11;
    pub const GENERAL_FAILURE: u32 = 0x100;

    /// The reasons that the Cascade client can parse.
    pub fn is_known_to_cascade(reason: u32) -> bool {
        (0x01..=0x11).contains(&reason) || reason == 0x100
    }
}

/// Cryptographic Algorithm.
pub mod algorithm {
    pub const AES: u32 = 0x03;
    pub const RSA: u32 = 0x04;
    pub const ECDSA: u32 = 0x06;
    /// From KMIP 2.0, as earlier versions have no number for the Edwards curves.
    pub const ED25519: u32 = 0x37;
    pub const ED448: u32 = 0x38;
}

/// Recommended Curve.
pub mod curve {
    pub const P_256: u32 = 0x07;
    pub const P_384: u32 = 0x0A;
    pub const P_521: u32 = 0x0D;
    /// From KMIP 2.0, as for the algorithms.
    pub const CURVE25519: u32 = 0x45;
    pub const CURVE448: u32 = 0x46;
}

/// Hashing Algorithm.
pub mod hash {
    pub const SHA_1: u32 = 0x04;
    pub const SHA_256: u32 = 0x06;
    pub const SHA_384: u32 = 0x07;
    pub const SHA_512: u32 = 0x08;
}

/// Padding Method.
pub mod padding {
    pub const PKCS1_V1_5: u32 = 0x08;
    pub const PSS: u32 = 0x0A;
}

/// Key Format Type.
pub mod format {
    pub const RAW: u32 = 0x01;
    pub const PKCS_1: u32 = 0x03;
    pub const PKCS_8: u32 = 0x04;
    pub const X_509: u32 = 0x05;
    pub const TRANSPARENT_RSA_PUBLIC_KEY: u32 = 0x0B;
    pub const TRANSPARENT_ECDSA_PUBLIC_KEY: u32 = 0x0F;
    pub const TRANSPARENT_EC_PUBLIC_KEY: u32 = 0x15;
}

/// Object Type.
pub mod object_type {
    pub const PUBLIC_KEY: u32 = 0x03;
    pub const PRIVATE_KEY: u32 = 0x04;
}

/// Query Function.
pub mod query {
    pub const OPERATIONS: u32 = 0x01;
    pub const OBJECTS: u32 = 0x02;
    pub const SERVER_INFORMATION: u32 = 0x03;
    pub const CAPABILITIES: u32 = 0x0B;
}

/// Batch Error Continuation Option.
pub mod continuation {
    pub const CONTINUE: u32 = 0x01;
    pub const STOP: u32 = 0x02;
    pub const UNDO: u32 = 0x03;
}

/// Link Type.
pub mod link {
    pub const PUBLIC_KEY: u32 = 0x102;
    pub const PRIVATE_KEY: u32 = 0x103;
}

/// Cryptographic Usage Mask.
pub mod usage {
    pub const SIGN: i32 = 0x01;
    pub const VERIFY: i32 = 0x02;
    pub const ENCRYPT: i32 = 0x04;
    pub const DECRYPT: i32 = 0x08;
}

/// State.
pub mod state {
    pub const ACTIVE: u32 = 0x02;
}

/// Validity Indicator.
pub mod validity {
    pub const VALID: u32 = 0x01;
    pub const INVALID: u32 = 0x02;
}
