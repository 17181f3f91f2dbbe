//! How objects are found where there are many, or many sessions.

use std::sync::Barrier;
use std::thread;

use cascade_hsm_bridge::pkcs11::{Class, Error, Filter, KeyPair, Token};

use crate::bench::{Bench, PIN, admit, make, on_faulty, sha256};
use crate::support::hsm::skipped_in_part;
use crate::support::others;

/// Makes the calls of `function` take so long.
fn slow(function: &str, millis: u32) -> String {
    format!("[[fault]]\nfunctions = \"{function}\"\ndelay-ms = {millis}\n")
}

fn sign(bench: &Bench, token: &Token, pair: &KeyPair) {
    let hash = sha256(b"data");
    let signature = token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
    assert_eq!(token.verify(&pair.public, &bench.mechanism(), &hash, &signature), Ok(true));
}

/// Signs with the key in so many sessions at the same time.
fn sign_at_once(bench: &Bench, token: &Token, pair: &KeyPair, sessions: usize) {
    let barrier = Barrier::new(sessions);
    thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                barrier.wait();
                sign(bench, token, pair);
            });
        }
    });
}

#[test]
fn many_keys_are_not_searched_one_by_one() {
    on_faulty("searching::many_keys_are_not_searched_one_by_one", |bench| {
        let pairs: Vec<KeyPair> = {
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            (0..40).map(|_| make(&token, bench.kind()).unwrap()).collect()
        };
        bench.play(&slow("C_FindObjectsInit", 25));
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let before = bench.count("C_FindObjectsInit");
        let searches = || bench.count("C_FindObjectsInit") - before;
        let sign = |pair: &KeyPair| token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
        pairs[..15].iter().for_each(|pair| drop(sign(pair)));
        assert_eq!(searches(), 15);
        pairs.iter().for_each(|pair| drop(sign(pair)));
        assert_eq!(searches(), 18, "the sixteenth, then everything at once, and whether that was all");
        if skipped_in_part(
            others::sees_nothing_new(bench.store()),
            "the module sees nothing that another process makes",
        ) {
            return;
        }
        // A key that is made after that by another program is searched, and one that is destroyed is not found.
        let id = |pair: &KeyPair| pair.private.id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        bench.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", &id(&pairs[39])]);
        let gone = token.sign(&pairs[39].private, &bench.mechanism(), &sha256(b"data"));
        assert_eq!(gone, Err(Error::NotFound { class: Class::PrivateKey }));
        bench.pkcs11_tool(&["--keypairgen", "--key-type", bench.store().any_kind(), "--id", "5ea7"]);
        assert!(token.key(Class::PrivateKey, &[0x5e, 0xa7]).is_ok());
        pairs[..39].iter().for_each(|pair| drop(sign(pair)));
    });
}

#[test]
fn two_keys_of_one_id_stay_ambiguous_however_many_were_searched() {
    on_faulty("searching::two_keys_of_one_id_stay_ambiguous_however_many_were_searched", |bench| {
        for label in ["a", "b"] {
            let kind = bench.store().any_kind();
            bench.pkcs11_tool(&["--keypairgen", "--key-type", kind, "--id", "0102", "--label", label]);
        }
        bench.play(&slow("C_FindObjectsInit", 25));
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for number in 0..40_u8 {
            let missing = token.key(Class::PrivateKey, &[9, number]).err();
            assert_eq!(missing, Some(Error::NotFound { class: Class::PrivateKey }));
            let equal = token.key(Class::PrivateKey, &[1, 2]).err();
            assert_eq!(equal, Some(Error::Ambiguous { class: Class::PrivateKey }));
        }
    });
}

#[test]
fn what_one_session_found_the_others_do_not_search() {
    on_faulty("searching::what_one_session_found_the_others_do_not_search", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let (searches, sessions) = (bench.count("C_FindObjectsInit"), bench.count("C_OpenSession"));
        bench.play(&slow("C_Sign", 200));
        sign_at_once(bench, &token, &pair, 4);
        assert!(bench.count("C_OpenSession") > sessions, "all of them took the same session");
        assert_eq!(bench.count("C_FindObjectsInit"), searches);
    });
}

#[test]
fn a_handle_that_means_another_key_in_another_session_is_not_used_there() {
    on_faulty("searching::a_handle_that_means_another_key_in_another_session_is_not_used_there", |bench| {
        bench.play("[objects]\nhandles-by-session = true\n");
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pairs: Vec<KeyPair> = (0..4).map(|_| make(&token, bench.kind()).unwrap()).collect();
        let searches = bench.count("C_FindObjectsInit");
        bench.play(&format!("[objects]\nhandles-by-session = true\n{}", slow("C_Sign", 50)));
        pairs.iter().for_each(|pair| sign_at_once(bench, &token, pair, 4));
        assert!(bench.count("C_FindObjectsInit") > searches, "what another session saw was taken over unseen");
    });
}

#[test]
fn a_module_that_gives_fewer_handles_than_it_is_asked_for_hides_no_object() {
    on_faulty("searching::a_module_that_gives_fewer_handles_than_it_is_asked_for_hides_no_object", |bench| {
        for _ in 0..2 {
            bench.pkcs11_tool(&["--keypairgen", "--key-type", bench.store().any_kind(), "--id", "0102"]);
        }
        for most in [1, 2] {
            bench.play(&format!("[objects]\nfind-batch = {most}\n"));
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let ambiguous = Some(Error::Ambiguous { class: Class::PrivateKey });
            assert_eq!(token.key(Class::PrivateKey, &[1, 2]).err(), ambiguous);
            sign(bench, &token, &make(&token, bench.kind()).unwrap());
            for _ in 0..2 {
                assert_eq!(token.list(&Filter::default()).unwrap().len(), 4 + 2 * most);
            }
            tokens.finalize();
        }
    });
}
