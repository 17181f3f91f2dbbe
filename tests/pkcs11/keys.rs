//! Key pairs: made, read back, signed and verified with.

use std::collections::HashSet;

use cascade_hsm_bridge::pkcs11::{
    Class, Curve, Error, Filter, Key, KeyKind, KeyPair, PublicKey, Rung, Settings, Token, Usage,
};
use cryptoki::mechanism::Mechanism;
use ring::signature;

use crate::bench::{PIN, admit, eddsa, make, on_token, sha256};
use crate::support::KeySpec;
use crate::support::hsm::skipped_in_part;

#[test]
fn makes_rsa_keys_that_sign() {
    on_token("keys::makes_rsa_keys_that_sign", |bench| {
        if bench.store().lacks("SHA256-RSA-PKCS", "sign") {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        judge(&token, &pair, KeyKind::Rsa { bits: 2048 });
        let signed = token.sign(&pair.private, &Mechanism::Sha256RsaPkcs, b"data").unwrap();
        assert!(token.verify(&pair.public, &Mechanism::Sha256RsaPkcs, b"data", &signed).unwrap());
        let Some(PublicKey::Rsa { modulus, exponent }) = &pair.public.public else { panic!("no RSA key") };
        assert_eq!((modulus.len(), exponent.as_slice()), (256, &[1, 0, 1][..]));
        // SoftHSM shows them of the private key too.
        assert_eq!(pair.public.public, pair.private.public);
        signature::RsaPublicKeyComponents { n: modulus, e: exponent }
            .verify(&signature::RSA_PKCS1_2048_8192_SHA256, b"data", &signed)
            .unwrap();
    });
}

#[test]
fn makes_keys_on_the_nist_curves_that_sign() {
    on_token("keys::makes_keys_on_the_nist_curves_that_sign", |bench| {
        if bench.store().cannot_make(&KeySpec::ecdsa(521)) {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let pair = make(&token, KeyKind::Ec(curve)).unwrap();
            judge(&token, &pair, KeyKind::Ec(curve));
            let Some(PublicKey::Ec { curve: named, point }) = &pair.public.public else { panic!("no point") };
            assert_eq!((*named, point.len()), (curve, curve.point_len()));
            let hash = sha256(b"data");
            let signed = token.sign(&pair.private, &Mechanism::Ecdsa, &hash).unwrap();
            assert_eq!(signed.len(), 2 * curve.coordinate_len());
            assert_eq!(token.verify(&pair.public, &Mechanism::Ecdsa, &hash, &signed), Ok(true));
            let mut bad = signed.clone();
            bad[5] ^= 1;
            assert_eq!(token.verify(&pair.public, &Mechanism::Ecdsa, &hash, &bad), Ok(false));
            assert_eq!(token.verify(&pair.public, &Mechanism::Ecdsa, &hash, &bad[1..]), Ok(false));
            if curve == Curve::P256 {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(b"data", &signed)
                    .unwrap();
            }
        }
    });
}

#[test]
fn makes_edwards_keys_that_sign() {
    on_token("keys::makes_edwards_keys_that_sign", |bench| {
        if bench.store().lacks("EDDSA", "sign") {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for curve in [Curve::Ed25519, Curve::Ed448] {
            // Of the field, or of what is written of a coordinate.
            let bits = [curve.bits(), 8 * u32::try_from(curve.coordinate_len()).unwrap()];
            let lists = |bits: u32| bench.store().offers_bits("EC-EDWARDS-KEY-PAIR-GEN", bits.try_into().unwrap());
            if skipped_in_part(!bits.into_iter().any(lists), format!("the token does not list {curve:?}")) {
                continue;
            }
            let pair = make(&token, KeyKind::Ec(curve)).unwrap();
            judge(&token, &pair, KeyKind::Ec(curve));
            let signed = token.sign(&pair.private, &eddsa(), b"data").unwrap();
            assert_eq!(signed.len(), 2 * curve.coordinate_len());
            assert_eq!(token.verify(&pair.public, &eddsa(), b"data", &signed), Ok(true));
            assert_eq!(token.verify(&pair.public, &eddsa(), b"other", &signed), Ok(false));
            let Some(PublicKey::Ec { point, .. }) = &pair.public.public else { panic!("no point") };
            if curve == Curve::Ed25519 {
                signature::UnparsedPublicKey::new(&signature::ED25519, point).verify(b"data", &signed).unwrap();
            }
        }
    });
}

/// What holds for every pair made here.
fn judge(token: &Token, pair: &KeyPair, kind: KeyKind) {
    assert_eq!((pair.public.kind, pair.private.kind), (kind, kind));
    assert_eq!((pair.public.class, pair.private.class), (Class::PublicKey, Class::PrivateKey));
    assert_eq!(pair.public.id, pair.private.id);
    assert!(pair.private.usage.sign && pair.public.usage.verify);
    let shapes = token.learnt().shapes;
    let shape = match kind {
        KeyKind::Rsa { .. } => shapes.rsa,
        KeyKind::Ec(Curve::Ed25519 | Curve::Ed448) => shapes.edwards,
        _ => shapes.ec,
    };
    // Such tokens add their own.
    if !skipped_in_part(shape.unwrap().rung > Rung::Full, "the token takes no uses that are set to false") {
        assert_eq!(pair.private.usage, Usage { sign: true, ..Usage::default() });
        assert!(!pair.public.usage.encrypt && !pair.public.usage.wrap);
    }
    let private: &Key = &pair.private;
    let state = [private.sensitive, private.extractable, private.always_sensitive, private.never_extractable];
    assert_eq!(state, [Some(true), Some(false), Some(true), Some(true)]);
    assert_eq!(token.label(Class::PublicKey, &pair.public.id).unwrap().as_deref(), Some("label-pub"));
    assert_eq!(token.label(Class::PrivateKey, &pair.private.id).unwrap().as_deref(), Some("label-priv"));
    assert_eq!(token.key(Class::PublicKey, &pair.public.id).unwrap(), pair.public);
}

#[test]
fn refuses_what_the_token_cannot_make_and_leaves_nothing_behind() {
    on_token("keys::refuses_what_the_token_cannot_make_and_leaves_nothing_behind", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for bits in [0, 100, 20_000] {
            let error = make(&token, KeyKind::Rsa { bits }).unwrap_err();
            assert!(error.to_string().starts_with("C_GenerateKeyPair: CKR_"), "{error}");
        }
        assert!(matches!(make(&token, KeyKind::Other(cryptoki::object::KeyType::DSA)), Err(Error::Unsupported(_))));
        assert_eq!(token.list(&Filter::default()).unwrap(), []);
    });
}

#[test]
fn short_ids_are_given_once() {
    on_token("keys::short_ids_are_given_once", |bench| {
        let tokens = bench.tokens_as(&Settings { id_length: 1, ..Settings::new(bench.module.clone()) });
        let token = admit(&tokens, "one", PIN).unwrap();
        let made = (0..30).map(|_| make(&token, bench.kind()).unwrap().private.id.clone());
        let ids: HashSet<_> = made.collect();
        // By chance alone, some two of thirty would be the same most of the time.
        assert_eq!(ids.len(), 30);
        assert!(ids.iter().all(|id| id.len() == 1));
    });
}
