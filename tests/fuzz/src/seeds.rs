//! The seeds: valid requests, at least one for each operation, version and form, made with the program's own writer for the keys that
//! the fake module always has.
#![forbid(unsafe_code)]

use cascade_hsm_bridge::kmip::{
    BatchErrorContinuation, CryptographicAlgorithm, HashingAlgorithm, KeyFormatType, Operation, PaddingMethod,
    RecommendedCurve, tag,
};
use cascade_hsm_bridge::ttlv::Writer;

/// The token of the fake module, and its PIN.
pub const TOKEN: &str = "fake";
pub const PIN: &str = "1234";

/// A valid request and what it is called.
pub struct Seed {
    pub name: String,
    pub message: Vec<u8>,
}

/// Writes the content of a structure.
type Write<'a> = &'a dyn Fn(&mut Writer<'_>);

/// An item of a batch: the operation, and what writes its payload.
type Item<'a> = (Operation, Write<'a>);

/// What a request says beside its items.
#[derive(Default)]
struct Header {
    minor: i32,
    anonymous: bool,
    max_response_size: Option<i32>,
    continuation: Option<BatchErrorContinuation>,
    everything: bool,
    extension: bool,
}

/// Every seed, in an order that stays.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for minor in 0..=4 {
        operations(minor, &mut seeds);
        signatures(minor, &mut seeds);
        key_pairs(minor, &mut seeds);
        headers(minor, &mut seeds);
    }
    batches(&mut seeds);
    seeds
}

fn add(seeds: &mut Vec<Seed>, name: &str, header: &Header, items: &[Item<'_>]) {
    seeds.push(Seed { name: format!("{name}-1.{}", header.minor), message: request(header, items) });
}

fn request(header: &Header, items: &[Item<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.structure(tag::REQUEST_MESSAGE, |w| {
        w.structure(tag::REQUEST_HEADER, |w| write_header(w, header, items.len()));
        for (index, (operation, payload)) in items.iter().enumerate() {
            w.structure(tag::BATCH_ITEM, |w| {
                w.enumeration(tag::OPERATION, operation.0);
                if items.len() > 1 {
                    w.byte_string(tag::UNIQUE_BATCH_ITEM_ID, &[b'a' + u8::try_from(index).unwrap_or(0)]);
                }
                w.structure(tag::REQUEST_PAYLOAD, |w| payload(w));
                if header.extension {
                    w.structure(tag::MESSAGE_EXTENSION, |w| {
                        w.text(tag::VENDOR_IDENTIFICATION, "vendor");
                        w.boolean(tag::CRITICALITY_INDICATOR, false);
                        w.structure(tag::VENDOR_EXTENSION, |w| w.long_integer(0x01_0203, -1));
                    });
                }
            });
        }
    });
    out
}

fn write_header(w: &mut Writer<'_>, header: &Header, items: usize) {
    w.structure(tag::PROTOCOL_VERSION, |w| {
        w.integer(tag::PROTOCOL_VERSION_MAJOR, 1);
        w.integer(tag::PROTOCOL_VERSION_MINOR, header.minor);
    });
    if let Some(size) = header.max_response_size {
        w.integer(tag::MAXIMUM_RESPONSE_SIZE, size);
    }
    if header.everything {
        if header.minor >= 4 {
            w.text(tag::CLIENT_CORRELATION_VALUE, "correlation");
            w.text(tag::SERVER_CORRELATION_VALUE, "of the server");
        }
        w.boolean(tag::ASYNCHRONOUS_INDICATOR, true);
        if header.minor >= 2 {
            w.boolean(tag::ATTESTATION_CAPABLE_INDICATOR, false);
            w.enumeration(tag::ATTESTATION_TYPE, 1);
        }
    }
    if !header.anonymous {
        w.structure(tag::AUTHENTICATION, |w| {
            w.structure(tag::CREDENTIAL, |w| {
                w.enumeration(tag::CREDENTIAL_TYPE, 1);
                w.structure(tag::CREDENTIAL_VALUE, |w| {
                    w.text(tag::USERNAME, TOKEN);
                    w.text(tag::PASSWORD, PIN);
                });
            });
        });
    }
    if let Some(continuation) = header.continuation {
        w.enumeration(tag::BATCH_ERROR_CONTINUATION_OPTION, continuation.0);
    }
    if header.everything {
        w.boolean(tag::BATCH_ORDER_OPTION, true);
        w.date_time(tag::TIME_STAMP, 1_700_000_000);
    }
    w.integer(tag::BATCH_COUNT, i32::try_from(items).unwrap_or(i32::MAX));
}

fn operations(minor: i32, seeds: &mut Vec<Seed>) {
    let header = Header { minor, ..Header::default() };
    let mut single = |name: &str, operation, payload: Write<'_>| {
        add(seeds, name, &header, &[(operation, payload)]);
    };
    let named = |identifier: &'static str| move |w: &mut Writer<'_>| w.text(tag::UNIQUE_IDENTIFIER, identifier);
    single("activate", Operation::ACTIVATE, &named("02_priv"));
    single("destroy", Operation::DESTROY, &named("04_pub"));
    single("destroy-derived", Operation::DESTROY, &named("05_pub"));
    for identifier in ["01_pub", "02_pub", "03", "04_pub", "05_pub", "07_pub", "01_priv", "99_pub"] {
        single(&format!("get-{identifier}"), Operation::GET, &named(identifier));
    }
    for (name, format) in [
        ("raw", KeyFormatType::RAW),
        ("pkcs1", KeyFormatType::PKCS_1),
        ("x509", KeyFormatType::X_509),
        ("transparent-rsa", KeyFormatType::TRANSPARENT_RSA_PUBLIC_KEY),
        ("transparent-ec", KeyFormatType::TRANSPARENT_EC_PUBLIC_KEY),
    ] {
        for identifier in ["01_pub", "02_pub"] {
            single(&format!("get-{name}-{identifier}"), Operation::GET, &|w| {
                w.text(tag::UNIQUE_IDENTIFIER, identifier);
                w.enumeration(tag::KEY_FORMAT_TYPE, format.0);
            });
        }
    }
    single("get-attribute-list", Operation::GET_ATTRIBUTE_LIST, &named("02_priv"));
    single("get-attributes", Operation::GET_ATTRIBUTES, &named("01_priv"));
    single("get-attributes-named", Operation::GET_ATTRIBUTES, &|w| {
        w.text(tag::UNIQUE_IDENTIFIER, "02_pub");
        for name in ["State", "Name", "Link", "Digest", "Cryptographic Length", "x-ours", "Initial Date"] {
            w.text(tag::ATTRIBUTE_NAME, name);
        }
    });
    single("locate-everything", Operation::LOCATE, &|_| {});
    single("locate", Operation::LOCATE, &|w| {
        w.integer(tag::MAXIMUM_ITEMS, 3);
        w.integer(tag::STORAGE_STATUS_MASK, 1);
        name_attribute(w, "canned 2");
        attribute(w, "Object Type", |w, tag| w.enumeration(tag, 4));
        attribute(w, "Unique Identifier", |w, tag| w.text(tag, "02_priv"));
        attribute(w, "Cryptographic Usage Mask", |w, tag| integer(w, tag, 1));
        attribute(w, "State", |w, tag| w.enumeration(tag, 2));
    });
    single("modify-attribute", Operation::MODIFY_ATTRIBUTE, &|w| {
        w.text(tag::UNIQUE_IDENTIFIER, "03_priv");
        name_attribute(w, "renamed");
    });
    single("revoke", Operation::REVOKE, &|w| {
        w.text(tag::UNIQUE_IDENTIFIER, "02_priv");
        w.structure(tag::REVOCATION_REASON, |w| {
            w.enumeration(tag::REVOCATION_REASON_CODE, 2);
            w.text(tag::REVOCATION_MESSAGE, "lost");
        });
        w.date_time(tag::COMPROMISE_OCCURRENCE_DATE, 6);
    });
    single("query", Operation::QUERY, &|w| {
        (1..=4 + minor as u32).for_each(|it| w.enumeration(tag::QUERY_FUNCTION, it))
    });
    single("discover-versions", Operation::DISCOVER_VERSIONS, &|w| {
        for minor in [2, 4, 9] {
            w.structure(tag::PROTOCOL_VERSION, |w| {
                w.integer(tag::PROTOCOL_VERSION_MAJOR, 1);
                w.integer(tag::PROTOCOL_VERSION_MINOR, minor);
            });
        }
    });
    single("rng-retrieve", Operation::RNG_RETRIEVE, &|w| integer(w, tag::DATA_LENGTH, 24));
    single("not-offered", Operation(0x01), &|w| w.enumeration(tag::OBJECT_TYPE, 2));
}

fn signatures(minor: i32, seeds: &mut Vec<Seed>) {
    let header = Header { minor, ..Header::default() };
    let rsa = |w: &mut Writer<'_>| {
        w.enumeration(tag::PADDING_METHOD, PaddingMethod::PKCS1_V1_5.0);
        w.enumeration(tag::HASHING_ALGORITHM, HashingAlgorithm::SHA_256.0);
        if minor >= 2 {
            w.enumeration(tag::CRYPTOGRAPHIC_ALGORITHM, CryptographicAlgorithm::RSA.0);
        }
    };
    let pss = |w: &mut Writer<'_>| {
        w.enumeration(tag::PADDING_METHOD, PaddingMethod::PSS.0);
        w.enumeration(tag::HASHING_ALGORITHM, HashingAlgorithm::SHA_384.0);
        if minor >= 4 {
            w.integer(tag::SALT_LENGTH, 48);
            w.enumeration(tag::MASK_GENERATOR, 1);
            w.enumeration(tag::MASK_GENERATOR_HASHING_ALGORITHM, HashingAlgorithm::SHA_384.0);
            w.integer(tag::TRAILER_FIELD, 1);
        }
    };
    let ecdsa = |w: &mut Writer<'_>| w.enumeration(tag::DIGITAL_SIGNATURE_ALGORITHM, 0x0e);
    let nothing = |_: &mut Writer<'_>| {};
    let schemes: [(&str, &str, Write<'_>); 5] = [
        ("rsa", "01", &rsa),
        ("pss", "01", &pss),
        ("ecdsa", "02", &ecdsa),
        ("p384", "03", &nothing),
        ("ed", "04", &nothing),
    ];
    for (name, id, parameters) in schemes {
        let sign = |w: &mut Writer<'_>| {
            w.text(tag::UNIQUE_IDENTIFIER, &format!("{id}_priv"));
            w.structure(tag::CRYPTOGRAPHIC_PARAMETERS, |w| parameters(w));
            w.byte_string(tag::DATA, b"signed");
        };
        add(seeds, &format!("sign-{name}"), &header, &[(Operation::SIGN, &sign)]);
        let verify = |w: &mut Writer<'_>| {
            w.text(tag::UNIQUE_IDENTIFIER, &format!("{id}_pub"));
            w.structure(tag::CRYPTOGRAPHIC_PARAMETERS, |w| parameters(w));
            w.byte_string(tag::DATA, b"signed");
            // As the fake module signs: ECDSA-Sig-Value or bare.
            let half = |len: u8| [vec![2, len], vec![0x5a; usize::from(len)]].concat();
            let signature = match id {
                "01" => vec![0x5a; 256],
                "02" => [vec![0x30, 68], half(32), half(32)].concat(),
                "03" => [vec![0x30, 100], half(48), half(48)].concat(),
                _ => vec![0x5a; 64],
            };
            w.byte_string(tag::SIGNATURE_DATA, &signature);
        };
        add(seeds, &format!("verify-{name}"), &header, &[(Operation::SIGNATURE_VERIFY, &verify)]);
    }
    if minor >= 4 {
        let digested = |w: &mut Writer<'_>| {
            w.text(tag::UNIQUE_IDENTIFIER, "01_priv");
            w.structure(tag::CRYPTOGRAPHIC_PARAMETERS, rsa);
            w.byte_string(tag::DIGESTED_DATA, &[7; 32]);
            w.boolean(tag::INIT_INDICATOR, true);
            w.boolean(tag::FINAL_INDICATOR, true);
        };
        add(seeds, "sign-digested", &header, &[(Operation::SIGN, &digested)]);
    }
}

fn key_pairs(minor: i32, seeds: &mut Vec<Seed>) {
    let header = Header { minor, ..Header::default() };
    let kinds = [
        ("rsa", CryptographicAlgorithm::RSA, Some(2048), None),
        ("p256", CryptographicAlgorithm::ECDSA, Some(256), None),
        ("p384", CryptographicAlgorithm::ECDSA, None, Some(RecommendedCurve::P_384)),
        ("p521", CryptographicAlgorithm::EC, Some(521), Some(RecommendedCurve::P_521)),
        ("ed25519", CryptographicAlgorithm::ED25519, Some(256), None),
        ("ed448", CryptographicAlgorithm::ED448, None, None),
    ];
    for (name, algorithm, length, curve) in kinds {
        let create = |w: &mut Writer<'_>| {
            w.structure(tag::COMMON_TEMPLATE_ATTRIBUTE, |w| {
                attribute(w, "Cryptographic Algorithm", |w, tag| w.enumeration(tag, algorithm.0));
                if let Some(length) = length {
                    attribute(w, "Cryptographic Length", |w, tag| integer(w, tag, length));
                }
                if let Some(curve) = curve {
                    attribute(w, "Cryptographic Domain Parameters", |w, tag| {
                        w.structure(tag, |w| w.enumeration(tag::RECOMMENDED_CURVE, curve.0));
                    });
                }
            });
            for (template, usage) in [(tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, 1), (tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE, 2)]
            {
                w.structure(template, |w| {
                    name_attribute(w, "new");
                    attribute(w, "Cryptographic Usage Mask", |w, tag| integer(w, tag, usage));
                    attribute(w, "Activation Date", |w, tag| w.date_time(tag, 1));
                });
            }
        };
        add(seeds, &format!("create-key-pair-{name}"), &header, &[(Operation::CREATE_KEY_PAIR, &create)]);
    }
}

fn headers(minor: i32, seeds: &mut Vec<Seed>) {
    let query = |w: &mut Writer<'_>| w.enumeration(tag::QUERY_FUNCTION, 1);
    let with = |header: Header| Header { minor, ..header };
    let mut one = |name: &str, header: Header| add(seeds, name, &header, &[(Operation::QUERY, &query)]);
    one("header-anonymous", with(Header { anonymous: true, ..Header::default() }));
    one("header-everything", with(Header { everything: true, ..Header::default() }));
    one("header-extension", with(Header { extension: true, ..Header::default() }));
    for size in [0, 200, 1000, i32::MAX] {
        one(&format!("header-size-{size}"), with(Header { max_response_size: Some(size), ..Header::default() }));
    }
}

fn batches(seeds: &mut Vec<Seed>) {
    let create = |w: &mut Writer<'_>| {
        w.structure(tag::COMMON_TEMPLATE_ATTRIBUTE, |w| {
            attribute(w, "Cryptographic Algorithm", |w, tag| w.enumeration(tag, CryptographicAlgorithm::ECDSA.0));
            attribute(w, "Cryptographic Length", |w, tag| integer(w, tag, 256));
        });
    };
    let nothing = |_: &mut Writer<'_>| {};
    let sign = |w: &mut Writer<'_>| w.byte_string(tag::DATA, b"data");
    let absent = |w: &mut Writer<'_>| w.text(tag::UNIQUE_IDENTIFIER, "99_priv");
    let life: [Item<'_>; 5] = [
        (Operation::CREATE_KEY_PAIR, &create),
        (Operation::ACTIVATE, &nothing),
        (Operation::SIGN, &sign),
        (Operation::GET_ATTRIBUTES, &nothing),
        (Operation::DESTROY, &nothing),
    ];
    let failing: [Item<'_>; 4] = [
        (Operation::QUERY, &nothing),
        (Operation::GET, &absent),
        (Operation::LOCATE, &nothing),
        (Operation::DESTROY, &absent),
    ];
    for minor in [0, 2, 4] {
        for continuation in [
            None,
            Some(BatchErrorContinuation::CONTINUE),
            Some(BatchErrorContinuation::STOP),
            Some(BatchErrorContinuation::UNDO),
        ] {
            let name = continuation.map_or("none".to_string(), |it| it.0.to_string());
            for size in [None, Some(600)] {
                let header = Header { minor, continuation, max_response_size: size, ..Header::default() };
                let suffix = size.map_or("", |_| "-short");
                add(seeds, &format!("batch-life-{name}{suffix}"), &header, &life);
                add(seeds, &format!("batch-failing-{name}{suffix}"), &header, &failing);
            }
        }
    }
}

fn attribute(w: &mut Writer<'_>, name: &str, value: impl FnOnce(&mut Writer<'_>, u32)) {
    w.structure(tag::ATTRIBUTE, |w| {
        w.text(tag::ATTRIBUTE_NAME, name);
        value(w, tag::ATTRIBUTE_VALUE);
    });
}

fn name_attribute(w: &mut Writer<'_>, name: &str) {
    attribute(w, "Name", |w, tag| {
        w.structure(tag, |w| {
            w.text(tag::NAME_VALUE, name);
            w.enumeration(tag::NAME_TYPE, 1);
        });
    });
}

fn integer(w: &mut Writer<'_>, tag: u32, value: i32) {
    // Where it was written is of no interest.
    let _ = w.integer(tag, value);
}
