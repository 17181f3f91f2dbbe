//! Every algorithm that the bridge signs with, its signatures verified by openssl with the public key that Get returned, and
//! by Signature Verify.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::hsm::skipped;
use support::key::{KeyPair, parameters, public_key, sign_item, unique_identifier};
use support::message::{Item, attribute};
use support::openssl::{PublicKey, Scheme};
use support::tags::{self, algorithm, hash, operation, padding, reason, usage, validity};
use support::ttlv::{Node, Value, bytes, structure};
use support::{Bridge, Client, KeySpec, Token};

const DATA: &[u8] = b"example.org. 3600 IN DNSKEY 257 3 8 AwEAAa";
const HASHES: [(u32, &str); 3] = [(hash::SHA_256, "-sha256"), (hash::SHA_384, "-sha384"), (hash::SHA_512, "-sha512")];

fn verify_item(id: &str, parameters: Node, data: &[u8], signature: &[u8]) -> Item {
    let fields =
        vec![unique_identifier(id), parameters, bytes(tags::DATA, data), bytes(tags::SIGNATURE_DATA, signature)];
    Item::new(operation::SIGNATURE_VERIFY, fields)
}

/// Signs, lets openssl judge, lets the bridge judge, then spoils data and signature.
fn judge(client: &mut Client, pair: &KeyPair, key: &PublicKey, parameters: &Node, scheme: Scheme) -> Vec<u8> {
    let signature = client.sign(&pair.private, parameters.clone(), DATA);
    assert!(key.verifies(scheme, DATA, &signature), "openssl refuses {scheme:?}");
    let mut spoilt = signature.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    for (data, signature, expected) in [
        (DATA, &signature, validity::VALID),
        (b"other", &signature, validity::INVALID),
        (DATA, &spoilt, validity::INVALID),
    ] {
        let answer = client.call(verify_item(&pair.public, parameters.clone(), data, signature));
        assert_eq!(answer.payload().child(tags::UNIQUE_IDENTIFIER).as_text(), pair.public);
        assert_eq!(answer.payload().child(tags::VALIDITY_INDICATOR).as_enumeration(), expected, "{scheme:?}");
    }
    signature
}

#[test]
fn rsa_signatures_verify() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for bits in [1024, 2048, 3072] {
        let pair = client.create_key_pair(&KeySpec::rsa(bits).named(&bits.to_string()));
        let key = public_key(&client.get_public(&pair.public, None));
        for (hash, digest) in HASHES {
            let pkcs1 = parameters(Some(padding::PKCS1_V1_5), Some(hash), Some(algorithm::RSA));
            let signature = judge(&mut client, &pair, &key, &pkcs1, Scheme::Digest(digest));
            assert_eq!(signature.len() * 8, usize::try_from(bits).unwrap());
            // PKCS#1 v1.5 has no random part.
            assert_eq!(client.sign(&pair.private, pkcs1, DATA), signature);
            // The salt is as long as the digest; EMSA-PSS (RFC 8017, 9.1.1) asks for 2 bytes more than both.
            if !(bits == 1024 && hash == hash::SHA_512) {
                let pss = parameters(Some(padding::PSS), Some(hash), Some(algorithm::RSA));
                judge(&mut client, &pair, &key, &pss, Scheme::Pss(digest));
            }
        }
    }
}

#[test]
fn a_large_rsa_key_signs() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::rsa(4096)) {
        return;
    }
    // 4096 bits are enough to see that lengths are not assumed, and take a token seconds, not minutes.
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(4096));
    let key = public_key(&client.get_public(&pair.public, None));
    judge(&mut client, &pair, &key, &support::key::rsa_sha_256(), Scheme::Digest("-sha256"));
}

#[test]
fn ecdsa_signatures_verify_on_every_curve() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(521)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for bits in [256, 384, 521] {
        let pair = client.create_key_pair(&KeySpec::ecdsa(bits).named(&bits.to_string()));
        let key = public_key(&client.get_public(&pair.public, None));
        for (hash, digest) in HASHES {
            let ecdsa = parameters(None, Some(hash), Some(algorithm::ECDSA));
            judge(&mut client, &pair, &key, &ecdsa, Scheme::Digest(digest));
        }
    }
}

#[test]
fn a_recommended_curve_and_the_length_have_to_agree() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(384)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for (length, curve) in [(384, tags::curve::P_256), (256, tags::curve::P_384), (0, tags::curve::P_384)] {
        client.call(KeySpec::new(algorithm::ECDSA, Some(length), Some(curve)).item()).is_refused(reason::INVALID_FIELD);
    }
    assert_eq!(token.objects(), Vec::<String>::new());
    for (length, name) in [(Some(384), "both"), (None, "alone")] {
        let spec = KeySpec::new(algorithm::ECDSA, length, Some(tags::curve::P_384)).named(name);
        let pair = client.create_key_pair(&spec);
        let key = public_key(&client.get_public(&pair.public, None));
        assert!(key.description().contains("NIST CURVE: P-384"), "{}", key.description());
    }
}

#[test]
fn an_ecdsa_key_is_on_no_edwards_curve() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for curve in [tags::curve::CURVE25519, tags::curve::CURVE448] {
        let spec = KeySpec::new(algorithm::ECDSA, Some(256), Some(curve));
        client.call(spec.item()).is_refused(reason::INVALID_FIELD);
    }
    assert_eq!(token.objects(), Vec::<String>::new());
}

#[test]
fn edwards_signatures_verify_where_the_token_has_them() {
    let token = Token::create();
    if token.lacks("EDDSA", "sign") {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for (algorithm, name, length) in [(algorithm::ED25519, "ED25519", 64), (algorithm::ED448, "ED448", 114)] {
        let pair = client.create_key_pair(&KeySpec::new(algorithm, None, None).named(name));
        let key = public_key(&client.get_public(&pair.public, None));
        assert!(key.description().contains(name), "{}", key.description());
        let signature = judge(&mut client, &pair, &key, &parameters(None, None, None), Scheme::Edwards);
        assert_eq!(signature.len(), length);
    }
}

#[test]
fn sha_1_verifies_but_does_not_sign() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let sha_1 = parameters(Some(padding::PKCS1_V1_5), Some(hash::SHA_1), Some(algorithm::RSA));
    client.call(sign_item(&pair.private, sha_1.clone(), DATA)).is_refused(reason::INVALID_FIELD);
    let id = pair.private.strip_suffix("_priv").unwrap();
    let signature = token.sign("SHA1-RSA-PKCS", id, DATA);
    for (data, expected) in [(DATA, validity::VALID), (b"other".as_slice(), validity::INVALID)] {
        let answer = client.call(verify_item(&pair.public, sha_1.clone(), data, &signature));
        assert_eq!(answer.payload().child(tags::VALIDITY_INDICATOR).as_enumeration(), expected);
    }
}

#[test]
fn refuses_parameters_that_do_not_fit_the_key() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let rsa = client.create_key_pair(&KeySpec::rsa(2048));
    let ec = client.create_key_pair(&KeySpec::ecdsa(256).named("ec"));
    for (id, padding, hash, algorithm) in [
        (&rsa.private, Some(padding::PKCS1_V1_5), Some(hash::SHA_256), Some(algorithm::ECDSA)),
        (&rsa.private, Some(0x02), Some(hash::SHA_256), Some(algorithm::RSA)),
        (&rsa.private, Some(padding::PKCS1_V1_5), Some(0x03), Some(algorithm::RSA)),
        (&rsa.private, Some(padding::PKCS1_V1_5), Some(0x8000_0001), Some(algorithm::RSA)),
        (&ec.private, None, Some(hash::SHA_256), Some(algorithm::RSA)),
        (&ec.private, Some(padding::PSS), Some(hash::SHA_256), Some(algorithm::ECDSA)),
    ] {
        let parameters = parameters(padding, hash, algorithm);
        client.call(sign_item(id, parameters, DATA)).is_refused(reason::INVALID_FIELD);
    }
}

#[test]
fn refuses_to_sign_with_a_public_key_and_to_verify_with_nonsense() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let asked = token.sign_parameters();
    let answer = client.call(sign_item(&pair.public, asked.clone(), DATA));
    assert_eq!(answer.status, 1);
    // Not a signature at all: judged, not failed (a wrong signature is Success with Validity Indicator Invalid).
    let rsa = client.create_key_pair(&KeySpec::rsa(2048).named("rsa"));
    let pss = parameters(Some(padding::PSS), Some(hash::SHA_256), Some(algorithm::RSA));
    for nonsense in [&b""[..], b"x", &[0x30, 0x80], &[0x30; 72], &[0xFF; 200], &[0; 256], &[0xFF; 256], &[1; 5000]] {
        for (pair, parameters) in [(&pair, &asked), (&rsa, &support::key::rsa_sha_256()), (&rsa, &pss)] {
            let answer = client.call(verify_item(&pair.public, parameters.clone(), DATA, nonsense));
            assert_eq!(answer.payload().child(tags::VALIDITY_INDICATOR).as_enumeration(), validity::INVALID);
        }
    }
}

#[test]
fn large_and_empty_data_are_signed() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for spec in KeySpec::each(&token) {
        let pair = client.create_key_pair(&spec);
        for data in [vec![], vec![0xA5; 200_000]] {
            let key = public_key(&client.get_public(&pair.public, None));
            let signature = client.sign(&pair.private, spec.parameters(), &data);
            assert!(key.verifies(Scheme::Digest("-sha256"), &data, &signature), "{} bytes", data.len());
        }
    }
}

#[test]
fn digital_signature_algorithm_says_as_much_as_hash_and_padding() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let key = public_key(&client.get_public(&pair.public, None));
    // SHA-384 with RSA Encryption (PKCS#1 v1.5)
    let fields = vec![support::ttlv::enumeration(tags::DIGITAL_SIGNATURE_ALGORITHM, 0x06)];
    judge(&mut client, &pair, &key, &structure(tags::CRYPTOGRAPHIC_PARAMETERS, fields), Scheme::Digest("-sha384"));
}

/// A key is for what it was made for, whatever the token would let it do.
#[test]
fn a_key_that_is_not_for_signing_does_not_sign() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let half = |mask| vec![attribute("Cryptographic Usage Mask", Value::Integer(mask))];
    let common = vec![
        attribute("Cryptographic Algorithm", Value::Enumeration(algorithm::RSA)),
        attribute("Cryptographic Length", Value::Integer(2048)),
    ];
    let payload = vec![
        structure(tags::COMMON_TEMPLATE_ATTRIBUTE, common),
        structure(tags::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, half(usage::DECRYPT)),
        structure(tags::PUBLIC_KEY_TEMPLATE_ATTRIBUTE, half(usage::ENCRYPT)),
    ];
    let made = client.ok(operation::CREATE_KEY_PAIR, payload);
    let id = |tag| made.child(tag).as_text().to_string();
    let (private, public) = (id(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER), id(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER));
    if skipped(bridge.meets_added_uses(), "the token takes no uses that are set to false") {
        return;
    }
    let rsa = support::key::rsa_sha_256();
    client.call(sign_item(&private, rsa.clone(), DATA)).is_refused(reason::PERMISSION_DENIED);
    client.call(verify_item(&public, rsa, DATA, &[1; 256])).is_refused(reason::PERMISSION_DENIED);
    assert_eq!(client.attribute(&private, "Cryptographic Usage Mask"), Value::Integer(usage::DECRYPT));
}
