//! DNSKEY records in files that other signers have written: what is taken is of a key that can be used, what is not says why.
#![no_main]

use cascade_hsm_bridge::bridge::{read_dnskeys, subject_public_key_info};
use cascade_hsm_bridge::pkcs11::PublicKey;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    match read_dnskeys(text) {
        Ok(keys) => {
            assert!(!keys.is_empty());
            for (key, encoded) in keys {
                assert!(encoded.len() < text.len());
                match &key {
                    PublicKey::Rsa { modulus, exponent } => assert!(!modulus.is_empty() && !exponent.is_empty()),
                    PublicKey::Ec { curve, point } => assert_eq!(point.len(), curve.point_len()),
                }
                assert_eq!(PublicKey::from_info(&subject_public_key_info(&key)), Some(key));
            }
        }
        Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}"),
    }
    Corpus::Keep
});
