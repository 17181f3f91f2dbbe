//! Objects renamed, listed, destroyed, by this program and by others.

use std::sync::Barrier;
use std::thread;

use cascade_hsm_bridge::pkcs11::{Class, Curve, Error, Filter, KeyKind, Listed};
use cryptoki::mechanism::Mechanism;

use crate::bench::{PIN, admit, make, on_faulty, on_faulty_with_all, on_token, sha256};
use crate::support::hsm::skipped;
use crate::support::{Hsm, others};

#[test]
fn renames_lists_and_destroys() {
    on_token("objects::renames_lists_and_destroys", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let other_kind = KeyKind::Rsa { bits: 2048 };
        let other = make(&token, other_kind).unwrap();
        let id = &pair.private.id;
        token.rename(Class::PrivateKey, id, "zone-ksk-\u{e9}").unwrap();
        assert_eq!(token.label(Class::PrivateKey, id).unwrap().as_deref(), Some("zone-ksk-\u{e9}"));
        assert_eq!(token.label(Class::PublicKey, id).unwrap().as_deref(), Some("label-pub"));
        // pkcs11-tool agrees.
        assert!(bench.pkcs11_tool(&["--list-objects"]).contains("zone-ksk-\u{e9}"));

        let list = |filter: Filter<'_>| token.list(&filter).unwrap();
        assert_eq!(list(Filter::default()).len(), 4);
        assert_eq!(list(Filter { class: Some(Class::PrivateKey), ..Filter::default() }).len(), 2);
        assert_eq!(list(Filter { class: Some(Class::SecretKey), ..Filter::default() }).len(), 0);
        assert_eq!(list(Filter { id: Some(id), ..Filter::default() }).len(), 2);
        let of_other_kind = list(Filter { key_type: Some(cryptoki::object::KeyType::RSA), ..Filter::default() });
        assert!(of_other_kind.iter().any(|found| found.id == other.public.id));
        assert_eq!(of_other_kind.len(), if matches!(bench.kind(), KeyKind::Rsa { .. }) { 4 } else { 2 });
        let found = list(Filter { label: Some("zone-ksk-\u{e9}"), ..Filter::default() });
        assert_eq!((found.len(), found[0].class, &found[0].id), (1, Class::PrivateKey, id));

        token.destroy(Class::PrivateKey, id).unwrap();
        assert_eq!(token.destroy(Class::PrivateKey, id), Err(Error::NotFound { class: Class::PrivateKey }));
        let gone = Some(Error::NotFound { class: Class::PrivateKey });
        assert_eq!(token.key(Class::PrivateKey, id).err(), gone);
        assert_eq!(token.label(Class::PrivateKey, id).err(), gone);
        assert_eq!(token.rename(Class::PrivateKey, id, "x").err(), gone);
        assert_eq!(token.sign(&pair.private, &bench.mechanism(), &[1; 32]).err(), gone);
        assert!(token.key(Class::PublicKey, id).is_ok());
        assert!(token.sign(&other.private, &Mechanism::RsaPkcs, b"data").is_ok());
    });
}

#[test]
fn equal_ids_are_ambiguous() {
    on_token("objects::equal_ids_are_ambiguous", |bench| {
        for label in ["a", "b"] {
            bench.pkcs11_tool(&[
                "--keypairgen",
                "--key-type",
                bench.store().any_kind(),
                "--id",
                "0102",
                "--label",
                label,
            ]);
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        assert_eq!(token.key(Class::PublicKey, &[1, 2]).err(), Some(Error::Ambiguous { class: Class::PublicKey }));
        assert_eq!(token.destroy(Class::PublicKey, &[1, 2]), Err(Error::Ambiguous { class: Class::PublicKey }));
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 4);
    });
}

#[test]
fn a_handle_that_went_stale_is_found_out() {
    on_token("objects::a_handle_that_went_stale_is_found_out", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let hash = sha256(b"data");
        let pair = make(&token, bench.kind()).unwrap();
        let hex: String = pair.private.id.iter().map(|byte| format!("{byte:02x}")).collect();
        token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
        if skipped(others::sees_nothing_new(bench.store()), "the module sees nothing that another process makes") {
            return;
        }
        // Destroyed by another program, and another key made under the same id.
        bench.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", &hex]);
        let gone = Error::NotFound { class: Class::PrivateKey };
        assert_eq!(token.sign(&pair.private, &bench.mechanism(), &hash).unwrap_err(), gone);
        assert_eq!(token.key(Class::PrivateKey, &pair.private.id).unwrap_err(), gone);
        bench.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", &hex]);
        bench.pkcs11_tool(&["--keypairgen", "--key-type", bench.store().any_kind(), "--id", &hex]);
        let signed = token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
        let public = token.key(Class::PublicKey, &pair.public.id).unwrap();
        assert_ne!(public, pair.public);
        assert_eq!(token.verify(&public, &bench.mechanism(), &hash, &signed), Ok(true));
    });
}

/// A public one is found without a login; SoftHSM destroys it without one as well, tpm2-pkcs11 does not.
#[test]
fn a_public_key_is_destroyed_under_a_login_though_that_was_lost() {
    on_faulty("objects::a_public_key_is_destroyed_under_a_login_though_that_was_lost", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let logins = bench.count("C_Login");
        bench.happen_with(
            "logout",
            "[[fault]]\nfunction = \"C_DestroyObject\"\nrv = \"CKR_USER_NOT_LOGGED_IN\"\nnext = 1\n",
        );
        token.destroy(Class::PublicKey, &pair.public.id).unwrap();
        assert_eq!(bench.count("C_Login") - logins, 1);
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 1);
    });
}

#[test]
fn every_session_forgets_a_destroyed_key() {
    on_token("objects::every_session_forgets_a_destroyed_key", |bench| {
        let tokens = bench.tokens_with(4);
        let token = admit(&tokens, "one", PIN).unwrap();
        let hash = sha256(b"data");
        let (old, kept) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let at_once = |work: &(dyn Fn() + Sync)| {
            let barrier = Barrier::new(4);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..20).for_each(|_| work());
                    });
                }
            });
        };
        at_once(&|| {
            token.sign(&old.private, &bench.mechanism(), &hash).unwrap();
            token.sign(&kept.private, &bench.mechanism(), &hash).unwrap();
        });
        token.destroy(Class::PrivateKey, &old.private.id).unwrap();
        at_once(&|| {
            let gone = token.sign(&old.private, &bench.mechanism(), &hash);
            assert_eq!(gone, Err(Error::NotFound { class: Class::PrivateKey }));
            token.sign(&kept.private, &bench.mechanism(), &hash).unwrap();
        });
    });
}

#[test]
fn a_private_key_tells_its_public_key_where_the_token_shows_it() {
    on_token("objects::a_private_key_tells_its_public_key_where_the_token_shows_it", |bench| {
        if bench.deals_handles_twice() {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for kind in [KeyKind::Rsa { bits: 2048 }, bench.kind()] {
            let pair = make(&token, kind).unwrap();
            token.destroy(Class::PublicKey, &pair.public.id).unwrap();
            let gone = token.key(Class::PublicKey, &pair.public.id).unwrap_err();
            assert_eq!(gone, Error::NotFound { class: Class::PublicKey });
            let private = token.key(Class::PrivateKey, &pair.private.id).unwrap();
            assert_eq!(private.kind, kind);
            // A point is something that a private key need not show, and SoftHSM's do not.
            let is_hidden = private.public.is_none() && matches!(kind, KeyKind::Ec(_));
            assert!(is_hidden || private.public == pair.public.public);
            assert!(is_hidden || bench.store().hsm() != Hsm::SoftHsm2 || matches!(kind, KeyKind::Rsa { .. }));
        }
    });
}

#[test]
fn a_private_key_tells_its_public_key_by_its_point_or_by_its_public_key_info() {
    const P256: KeyKind = KeyKind::Ec(Curve::P256);
    const ED25519: KeyKind = KeyKind::Ec(Curve::Ed25519);
    const RSA: KeyKind = KeyKind::Rsa { bits: 2048 };
    on_faulty_with_all("objects::a_private_key_tells_its_public_key_by_its_point_or_by_its_public_key_info", |bench| {
        let rule = |attribute: &str, how: &str| {
            format!("[[attribute]]\nattribute = {attribute:?}\nclass = \"CKO_PRIVATE_KEY\"\n{how}\n")
        };
        let hidden = |attribute: &str| rule(attribute, "rv = \"CKR_ATTRIBUTE_TYPE_INVALID\"");
        let point = |form: &str| [rule("CKA_EC_POINT", form), hidden("CKA_PUBLIC_KEY_INFO")].concat();
        let info = |other: &str| [hidden(other), rule("CKA_PUBLIC_KEY_INFO", "form = \"info\"")].concat();
        let nothing = |other: &str| [hidden(other), hidden("CKA_PUBLIC_KEY_INFO")].concat();
        for (kind, shows, is_told) in [
            (P256, point("partner = true"), true),
            (P256, point("partner = true\nform = \"raw\""), true),
            (P256, info("CKA_EC_POINT"), true),
            (P256, nothing("CKA_EC_POINT"), false),
            (ED25519, point("partner = true"), true),
            (ED25519, point("partner = true\nform = \"raw\""), true),
            (ED25519, info("CKA_EC_POINT"), true),
            (ED25519, nothing("CKA_EC_POINT"), false),
            (RSA, info("CKA_MODULUS"), true),
            (RSA, nothing("CKA_MODULUS"), false),
        ] {
            if kind == ED25519 && bench.lacks_edwards() {
                continue;
            }
            bench.play("");
            let tokens = bench.tokens();
            let pair = make(&admit(&tokens, "one", PIN).unwrap(), kind).unwrap();
            assert!(pair.public.public.is_some());
            drop(tokens);
            // To who has not seen the pair being made, and finds no object of the public key.
            bench.play(&format!("[objects]\nhide = [\"CKO_PUBLIC_KEY\"]\n{shows}"));
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let gone = Error::NotFound { class: Class::PublicKey };
            assert_eq!(token.key(Class::PublicKey, &pair.public.id).unwrap_err(), gone);
            let private = token.key(Class::PrivateKey, &pair.private.id).unwrap();
            let expected = pair.public.public.as_ref().filter(|_| is_told);
            assert_eq!(private.public.as_ref(), expected, "{kind:?}: {shows}");
        }
    });
}

#[test]
fn an_object_that_shows_nothing_hides_no_other() {
    on_faulty("objects::an_object_that_shows_nothing_hides_no_other", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let list = || token.list(&Filter::default());
        let hidden = |class: &str, rv: &str| {
            let what = "attribute = [\"CKA_ID\", \"CKA_LABEL\", \"CKA_KEY_TYPE\"]";
            format!("[[attribute]]\n{what}\nclass = {class:?}\nwhole = true\nrv = {rv:?}\n")
        };
        let shown = |listed: Vec<Listed>| listed.into_iter().filter(|object| !object.id.is_empty()).collect::<Vec<_>>();
        for rv in ["CKR_ATTRIBUTE_SENSITIVE", "CKR_ATTRIBUTE_TYPE_INVALID", "CKR_FUNCTION_REJECTED"] {
            bench.play(&hidden("CKO_PRIVATE_KEY", rv));
            let listed = shown(list().unwrap());
            assert_eq!((listed.len(), &listed[0].id), (1, &pair.public.id), "{rv}");
        }
        // Where all objects are odd there is nothing to list; where the token fails, that is what is to be said.
        let both = |rv| [hidden("CKO_PRIVATE_KEY", rv), hidden("CKO_PUBLIC_KEY", rv)].concat();
        bench.play(&both("CKR_FUNCTION_REJECTED"));
        assert_eq!(list(), Ok(Vec::new()));
        bench.play(&both("CKR_FUNCTION_FAILED"));
        assert_eq!(list().unwrap_err().rv(), Some(cryptoki::error::RvError::FunctionFailed));
    });
}
