//! Tags (KMIP 1.2, section 9.1.3.1, with those of 1.3 and 1.4 that are used here).
#![forbid(unsafe_code)]

macro_rules! tags {
    ($($name:ident = $tag:literal, $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: u32 = $tag;
        )*

        /// Every tag that has a name here, in the order of their numbers, with the name as the specification spells it.
        pub const NAMED: &[(u32, &str)] = &[$(($tag, $text),)*];
    };
}

tags! {
    ACTIVATION_DATE = 0x42_0001, "Activation Date";
    ASYNCHRONOUS_INDICATOR = 0x42_0007, "Asynchronous Indicator";
    ATTRIBUTE = 0x42_0008, "Attribute";
    ATTRIBUTE_INDEX = 0x42_0009, "Attribute Index";
    ATTRIBUTE_NAME = 0x42_000a, "Attribute Name";
    ATTRIBUTE_VALUE = 0x42_000b, "Attribute Value";
    AUTHENTICATION = 0x42_000c, "Authentication";
    BATCH_COUNT = 0x42_000d, "Batch Count";
    BATCH_ERROR_CONTINUATION_OPTION = 0x42_000e, "Batch Error Continuation Option";
    BATCH_ITEM = 0x42_000f, "Batch Item";
    BATCH_ORDER_OPTION = 0x42_0010, "Batch Order Option";
    BLOCK_CIPHER_MODE = 0x42_0011, "Block Cipher Mode";
    COMMON_TEMPLATE_ATTRIBUTE = 0x42_001f, "Common Template-Attribute";
    COMPROMISE_OCCURRENCE_DATE = 0x42_0021, "Compromise Occurrence Date";
    CREDENTIAL = 0x42_0023, "Credential";
    CREDENTIAL_TYPE = 0x42_0024, "Credential Type";
    CREDENTIAL_VALUE = 0x42_0025, "Credential Value";
    CRITICALITY_INDICATOR = 0x42_0026, "Criticality Indicator";
    CRYPTOGRAPHIC_ALGORITHM = 0x42_0028, "Cryptographic Algorithm";
    CRYPTOGRAPHIC_DOMAIN_PARAMETERS = 0x42_0029, "Cryptographic Domain Parameters";
    CRYPTOGRAPHIC_LENGTH = 0x42_002a, "Cryptographic Length";
    CRYPTOGRAPHIC_PARAMETERS = 0x42_002b, "Cryptographic Parameters";
    CRYPTOGRAPHIC_USAGE_MASK = 0x42_002c, "Cryptographic Usage Mask";
    DIGEST = 0x42_0034, "Digest";
    DIGEST_VALUE = 0x42_0035, "Digest Value";
    HASHING_ALGORITHM = 0x42_0038, "Hashing Algorithm";
    KEY_BLOCK = 0x42_0040, "Key Block";
    KEY_COMPRESSION_TYPE = 0x42_0041, "Key Compression Type";
    KEY_FORMAT_TYPE = 0x42_0042, "Key Format Type";
    KEY_MATERIAL = 0x42_0043, "Key Material";
    KEY_VALUE = 0x42_0045, "Key Value";
    KEY_WRAPPING_SPECIFICATION = 0x42_0047, "Key Wrapping Specification";
    LINK = 0x42_004a, "Link";
    LINK_TYPE = 0x42_004b, "Link Type";
    LINKED_OBJECT_IDENTIFIER = 0x42_004c, "Linked Object Identifier";
    MAXIMUM_ITEMS = 0x42_004f, "Maximum Items";
    MAXIMUM_RESPONSE_SIZE = 0x42_0050, "Maximum Response Size";
    MESSAGE_EXTENSION = 0x42_0051, "Message Extension";
    MODULUS = 0x42_0052, "Modulus";
    NAME = 0x42_0053, "Name";
    NAME_TYPE = 0x42_0054, "Name Type";
    NAME_VALUE = 0x42_0055, "Name Value";
    OBJECT_TYPE = 0x42_0057, "Object Type";
    OPERATION = 0x42_005c, "Operation";
    PADDING_METHOD = 0x42_005f, "Padding Method";
    PRIVATE_KEY_TEMPLATE_ATTRIBUTE = 0x42_0065, "Private Key Template-Attribute";
    PRIVATE_KEY_UNIQUE_IDENTIFIER = 0x42_0066, "Private Key Unique Identifier";
    PROTOCOL_VERSION = 0x42_0069, "Protocol Version";
    PROTOCOL_VERSION_MAJOR = 0x42_006a, "Protocol Version Major";
    PROTOCOL_VERSION_MINOR = 0x42_006b, "Protocol Version Minor";
    PUBLIC_EXPONENT = 0x42_006c, "Public Exponent";
    PUBLIC_KEY = 0x42_006d, "Public Key";
    PUBLIC_KEY_TEMPLATE_ATTRIBUTE = 0x42_006e, "Public Key Template-Attribute";
    PUBLIC_KEY_UNIQUE_IDENTIFIER = 0x42_006f, "Public Key Unique Identifier";
    Q_STRING = 0x42_0072, "Q String";
    QLENGTH = 0x42_0073, "Qlength";
    QUERY_FUNCTION = 0x42_0074, "Query Function";
    RECOMMENDED_CURVE = 0x42_0075, "Recommended Curve";
    REQUEST_HEADER = 0x42_0077, "Request Header";
    REQUEST_MESSAGE = 0x42_0078, "Request Message";
    REQUEST_PAYLOAD = 0x42_0079, "Request Payload";
    RESPONSE_HEADER = 0x42_007a, "Response Header";
    RESPONSE_MESSAGE = 0x42_007b, "Response Message";
    RESPONSE_PAYLOAD = 0x42_007c, "Response Payload";
    RESULT_MESSAGE = 0x42_007d, "Result Message";
    RESULT_REASON = 0x42_007e, "Result Reason";
    RESULT_STATUS = 0x42_007f, "Result Status";
    REVOCATION_MESSAGE = 0x42_0080, "Revocation Message";
    REVOCATION_REASON = 0x42_0081, "Revocation Reason";
    REVOCATION_REASON_CODE = 0x42_0082, "Revocation Reason Code";
    KEY_ROLE_TYPE = 0x42_0083, "Key Role Type";
    SERVER_INFORMATION = 0x42_0088, "Server Information";
    STATE = 0x42_008d, "State";
    STORAGE_STATUS_MASK = 0x42_008e, "Storage Status Mask";
    TEMPLATE_ATTRIBUTE = 0x42_0091, "Template-Attribute";
    TIME_STAMP = 0x42_0092, "Time Stamp";
    UNIQUE_BATCH_ITEM_ID = 0x42_0093, "Unique Batch Item ID";
    UNIQUE_IDENTIFIER = 0x42_0094, "Unique Identifier";
    USERNAME = 0x42_0099, "Username";
    VALIDITY_INDICATOR = 0x42_009b, "Validity Indicator";
    VENDOR_EXTENSION = 0x42_009c, "Vendor Extension";
    VENDOR_IDENTIFICATION = 0x42_009d, "Vendor Identification";
    PASSWORD = 0x42_00a1, "Password";
    OBJECT_GROUP_MEMBER = 0x42_00ac, "Object Group Member";
    DIGITAL_SIGNATURE_ALGORITHM = 0x42_00ae, "Digital Signature Algorithm";
    DATA = 0x42_00c2, "Data";
    SIGNATURE_DATA = 0x42_00c3, "Signature Data";
    DATA_LENGTH = 0x42_00c4, "Data Length";
    RANDOM_IV = 0x42_00c5, "Random IV";
    ATTESTATION_TYPE = 0x42_00c7, "Attestation Type";
    IV_LENGTH = 0x42_00cd, "IV Length";
    TAG_LENGTH = 0x42_00ce, "Tag Length";
    FIXED_FIELD_LENGTH = 0x42_00cf, "Fixed Field Length";
    COUNTER_LENGTH = 0x42_00d0, "Counter Length";
    INITIAL_COUNTER_VALUE = 0x42_00d1, "Initial Counter Value";
    INVOCATION_FIELD_LENGTH = 0x42_00d2, "Invocation Field Length";
    ATTESTATION_CAPABLE_INDICATOR = 0x42_00d3, "Attestation Capable Indicator";
    OFFSET_ITEMS = 0x42_00d4, "Offset Items";
    LOCATED_ITEMS = 0x42_00d5, "Located Items";
    CORRELATION_VALUE = 0x42_00d6, "Correlation Value";
    INIT_INDICATOR = 0x42_00d7, "Init Indicator";
    FINAL_INDICATOR = 0x42_00d8, "Final Indicator";
    RNG_PARAMETERS = 0x42_00d9, "RNG Parameters";
    RNG_ALGORITHM = 0x42_00da, "RNG Algorithm";
    STREAMING_CAPABILITY = 0x42_00ef, "Streaming Capability";
    ASYNCHRONOUS_CAPABILITY = 0x42_00f0, "Asynchronous Capability";
    ATTESTATION_CAPABILITY = 0x42_00f1, "Attestation Capability";
    CAPABILITY_INFORMATION = 0x42_00f7, "Capability Information";
    KEY_WRAP_TYPE = 0x42_00f8, "Key Wrap Type";
    BATCH_UNDO_CAPABILITY = 0x42_00f9, "Batch Undo Capability";
    BATCH_CONTINUE_CAPABILITY = 0x42_00fa, "Batch Continue Capability";
    SALT_LENGTH = 0x42_0100, "Salt Length";
    MASK_GENERATOR = 0x42_0101, "Mask Generator";
    MASK_GENERATOR_HASHING_ALGORITHM = 0x42_0102, "Mask Generator Hashing Algorithm";
    P_SOURCE = 0x42_0103, "P Source";
    TRAILER_FIELD = 0x42_0104, "Trailer Field";
    CLIENT_CORRELATION_VALUE = 0x42_0105, "Client Correlation Value";
    SERVER_CORRELATION_VALUE = 0x42_0106, "Server Correlation Value";
    DIGESTED_DATA = 0x42_0107, "Digested Data";
}

/// The name of `tag` for a message to a person; its number if it has no name here.
pub fn name(tag: u32) -> String {
    match NAMED.binary_search_by_key(&tag, |(number, _)| *number) {
        Ok(place) => NAMED.get(place).map(|(_, name)| (*name).to_owned()).unwrap_or_default(),
        Err(_) => format!("tag {tag:06X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        assert!(NAMED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(name(BATCH_COUNT), "Batch Count");
        assert_eq!(name(0x54_0001), "tag 540001");
    }

    #[test]
    fn numbers_agree_with_the_specification_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/kmip/tags.tsv");
        let Ok(table) = std::fs::read_to_string(path) else {
            eprintln!("skipped: no specification tables beside the project");
            return;
        };
        for (number, name) in NAMED {
            let hex = format!("{number:06X}");
            let row = table.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|row| row[0] == hex);
            assert_eq!(row.map(|row| row[2]), Some(*name));
        }
    }
}
