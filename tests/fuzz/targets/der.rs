//! The DER that tokens and clients make: public keys, points, parameters and signatures. What is taken is written and read again.
//! The first byte is the number of a curve.
#![no_main]

use cascade_hsm_bridge::bridge::{ecdsa_halves, ecdsa_signature, subject_public_key_info};
use cascade_hsm_bridge::pkcs11::{Curve, PublicKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((number, der)) = data.split_first() else { return };
    let curve = Curve::ALL[usize::from(*number) % Curve::ALL.len()];
    if let Some(named) = Curve::from_params(der) {
        assert!(Curve::ALL.contains(&named));
    }
    if let Some(point) = curve.point(der) {
        assert_eq!(point.len(), curve.point_len());
        comes_back(PublicKey::Ec { curve, point });
    }
    if let Some(key) = PublicKey::from_info(der) {
        comes_back(key);
    }
    let len = curve.coordinate_len();
    if let Some(halves) = ecdsa_halves(der, len) {
        assert_eq!(halves.len(), 2 * len);
        let again = ecdsa_signature(&halves).and_then(|signature| ecdsa_halves(&signature, len));
        assert_eq!(again, Some(halves));
    }
    if let Some(signature) = ecdsa_signature(der) {
        // Beyond the largest curve, lengths are not read.
        if der.len() <= 132 {
            assert_eq!(ecdsa_halves(&signature, der.len() / 2).as_deref(), Some(der));
        }
    }
});

fn comes_back(key: PublicKey) {
    let info = subject_public_key_info(&key);
    assert_eq!(PublicKey::from_info(&info), Some(key));
}
