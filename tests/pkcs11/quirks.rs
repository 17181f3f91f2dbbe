//! Modules as they are: what they answer to reading, signing and searching, old and new function lists, locks, sessions.

use std::sync::Barrier;
use std::thread;

use cascade_hsm_bridge::pkcs11::{Class, Curve, KeyKind, LoadError, Module, Settings, Token};
use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};

use crate::bench::{Bench, PIN, admit, eddsa, make, on_faulty, on_faulty_with_all, on_spy, sha256};
use crate::support::hsm::skipped;

const P256: KeyKind = KeyKind::Ec(Curve::P256);

fn works(token: &Token) {
    let pair = make(token, P256).unwrap();
    let signature = token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
    assert_eq!(signature.len(), 64);
    assert!(token.key(Class::PublicKey, &pair.public.id).is_ok());
    token.destroy(Class::PrivateKey, &pair.private.id).unwrap();
    token.destroy(Class::PublicKey, &pair.public.id).unwrap();
}

/// Does something with the token by who has not seen it before.
fn anew<T>(bench: &Bench, work: impl FnOnce(&Token) -> T) -> T {
    let tokens = bench.tokens();
    let token = admit(&tokens, "one", PIN).unwrap();
    work(&token)
}

#[test]
fn reads_the_other_attributes_where_one_makes_the_module_refuse_all() {
    on_faulty_with_all("quirks::reads_the_other_attributes_where_one_makes_the_module_refuse_all", |bench| {
        for attribute in
            ["CKA_NEVER_EXTRACTABLE", "CKA_SENSITIVE", "CKA_ALWAYS_AUTHENTICATE", "CKA_DERIVE", "CKA_LABEL"]
        {
            bench.play(&format!(
                "[[attribute]]\nattribute = \"{attribute}\"\nrv = \"CKR_FUNCTION_FAILED\"\nwhole = true\n"
            ));
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            for kind in [P256, KeyKind::Rsa { bits: 2048 }] {
                let pair = make(&token, kind).unwrap_or_else(|error| panic!("{attribute}: {error}"));
                assert_eq!((pair.private.kind, pair.public.kind), (kind, kind), "{attribute}");
                assert!(pair.private.usage.sign);
            }
        }
    });
}

#[test]
fn depends_on_no_attribute_that_tokens_leave_out() {
    on_spy("quirks::depends_on_no_attribute_that_tokens_leave_out", |bench| {
        for kind in [bench.kind(), KeyKind::Rsa { bits: 2048 }] {
            let id = anew(bench, |token| make(token, kind).unwrap().private.id.clone());
            anew(bench, |token| assert_eq!(token.key(Class::PrivateKey, &id).unwrap().kind, kind));
        }
        let log = std::fs::read_to_string(bench.file("calls")).unwrap();
        for attribute in ["CKA_KEY_GEN_MECHANISM", "CKA_LOCAL"] {
            assert!(!log.contains(attribute), "{attribute} is asked for");
        }
        // Said of a new key, never asked.
        let read = log.split("C_GetAttributeValue\n").skip(1).map(|call| call.split("\n\n").next().unwrap_or_default());
        assert!(read.clone().count() > 4 && read.clone().all(|call| !call.contains("CKA_MODULUS_BITS")));
    });
}

#[test]
fn every_search_names_a_class() {
    on_spy("quirks::every_search_names_a_class", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
        token.destroy(Class::PrivateKey, &pair.private.id).unwrap();
        token.destroy(Class::PublicKey, &pair.public.id).unwrap();
        token.list(&cascade_hsm_bridge::pkcs11::Filter::default()).unwrap();
        let log = std::fs::read_to_string(bench.file("calls")).unwrap();
        let searches: Vec<_> = log.split(": C_FindObjectsInit\n").skip(1).collect();
        assert!(searches.len() > 4);
        for search in searches {
            let template = search.split("Returned:").next().unwrap();
            assert!(template.contains("CKA_CLASS"), "{template}");
        }
    });
}

#[test]
fn signs_into_a_buffer_of_the_length_that_signatures_have() {
    on_faulty_with_all("quirks::signs_into_a_buffer_of_the_length_that_signatures_have", |bench| {
        // NetHSM's answer to the question for the length.
        bench.play(
            "[[fault]]\nfunctions = \"C_Sign\"\nmechanism = \"CKM_EDDSA\"\nquery = true\nrv = \"CKR_BUFFER_TOO_SMALL\"\n",
        );
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        if !bench.lacks_edwards() {
            let pair = make(&token, KeyKind::Ec(Curve::Ed25519)).unwrap();
            let signature = token.sign(&pair.private, &eddsa(), b"data").unwrap();
            assert!(token.verify(&pair.public, &eddsa(), b"data", &signature).unwrap());
        }
        let rsa = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        assert_eq!(token.sign(&rsa.private, &Mechanism::Sha256RsaPkcs, b"data").unwrap().len(), 256);
        drop((token, tokens));
        // A key that does not tell its size.
        let silent =
            |attribute| format!("[[attribute]]\nattribute = {attribute:?}\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"\n");
        bench.play(&(silent("CKA_MODULUS") + &silent("CKA_PUBLIC_KEY_INFO")));
        anew(bench, |token| {
            let silent = token.key(Class::PrivateKey, &rsa.private.id).unwrap();
            assert_eq!(silent.kind, KeyKind::Rsa { bits: 0 });
            assert_eq!(token.sign(&silent, &Mechanism::Sha256RsaPkcs, b"data").unwrap().len(), 256);
        });
    });
}

#[test]
fn signs_by_the_binding_where_each_caller_gets_functions_of_its_own() {
    on_faulty_with_all("quirks::signs_by_the_binding_where_each_caller_gets_functions_of_its_own", |bench| {
        // As with p11-kit, whose instances know nothing of one another's sessions.
        bench.play("[module]\nlist-per-call = true\n");
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        let before = bench.count("C_Sign");
        token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
        assert_eq!(bench.count("C_Sign") - before, 2);
    });
}

#[test]
fn calls_in_one_part_and_asks_for_random_in_small_portions() {
    on_faulty_with_all("quirks::calls_in_one_part_and_asks_for_random_in_small_portions", |bench| {
        bench.play(
            "[[fault]]\nfunctions = [\"C_SignUpdate\", \"C_SignFinal\", \"C_VerifyUpdate\", \"C_VerifyFinal\", \"C_Digest*\", \"C_SeedRandom\"]\nabort = true\n\
             [[fault]]\nfunctions = \"C_GenerateRandom\"\nover-bytes = 1024\nrv = \"CKR_DATA_LEN_RANGE\"\n\
             [[fault]]\nfunctions = \"C_GenerateRandom\"\nunder-bytes = 8\nrv = \"CKR_DATA_LEN_RANGE\"\n",
        );
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        let data = vec![7; 100_000];
        let signature = token.sign(&pair.private, &Mechanism::Sha256RsaPkcs, &data).unwrap();
        assert!(token.verify(&pair.public, &Mechanism::Sha256RsaPkcs, &data, &signature).unwrap());
        for len in [1, 7, 8, 1024, 1025, 10_000] {
            let random = token.random(len).unwrap();
            assert!(random.len() == len && (len < 7 || random.iter().any(|byte| *byte != 0)));
        }
    });
}

#[test]
fn touches_no_data_objects() {
    on_faulty_with_all("quirks::touches_no_data_objects", |bench| {
        bench.play(
            "[[fault]]\nfunctions = [\"C_CreateObject\", \"C_CopyObject\"]\nabort = true\n\
             [[fault]]\nfunctions = \"C_*\"\nclass = \"CKO_DATA\"\nabort = true\n",
        );
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        works(&token);
        assert_eq!(token.learnt().data_objects, None);
    });
}

#[test]
fn a_data_object_whose_session_is_lost_is_not_made_a_second_time() {
    on_faulty_with_all("quirks::a_data_object_whose_session_is_lost_is_not_made_a_second_time", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        if skipped(token.create_data_object("first", true, b"1").is_err(), "the token takes no data objects") {
            return;
        }
        bench.play(
            "[[fault]]\nfunctions = \"C_CreateObject\"\nnext = 1\nafter = true\nrv = \"CKR_SESSION_HANDLE_INVALID\"\n",
        );
        token.create_data_object("second", true, b"2").unwrap_err();
        assert_eq!(token.data_objects("second").unwrap(), [b"2"]);
    });
}

#[test]
fn changes_of_objects_come_one_at_a_time_while_others_sign() {
    on_faulty_with_all("quirks::changes_of_objects_come_one_at_a_time_while_others_sign", |bench| {
        bench.play(
            "[[fault]]\nfunctions = [\"C_GenerateKeyPair\", \"C_DestroyObject\", \"C_SetAttributeValue\"]\nconcurrent = true\nabort = true\n\
             [[fault]]\nfunctions = [\"C_GenerateKeyPair\", \"C_DestroyObject\", \"C_SetAttributeValue\", \"C_FindObjectsInit\"]\ndelay-ms = 1\n",
        );
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let signer = make(&token, P256).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let pair = make(&token, P256).unwrap();
                        token.rename(Class::PublicKey, &pair.public.id, "new").unwrap();
                        token.destroy(Class::PrivateKey, &pair.private.id).unwrap();
                    }
                });
                scope.spawn(|| {
                    for _ in 0..50 {
                        token.sign(&signer.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
                    }
                });
            }
        });
    });
}

#[test]
fn a_session_whose_operation_failed_is_not_used_again() {
    on_faulty_with_all("quirks::a_session_whose_operation_failed_is_not_used_again", |bench| {
        let stays = "[operations]\nstay-active-after-error = true\n";
        // With one session, which keeps the login too, and with more.
        for sessions in [1_u32, 2] {
            bench.play(stays);
            let tokens = bench.tokens_with(sessions);
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
            let sign = || token.sign(&pair.private, &Mechanism::Sha256RsaPkcs, b"data");
            sign().unwrap();
            for _ in 0..5 {
                bench.play(&format!("{stays}[[fault]]\nfunctions = \"C_Sign\"\nrv = \"CKR_DATA_INVALID\"\n"));
                assert_eq!(sign().unwrap_err().rv(), Some(RvError::DataInvalid));
                bench.play(stays);
                sign().unwrap();
            }
            // What is in the middle of something is closed, not left behind.
            let open = bench.count("sessions");
            assert!(open <= usize::try_from(sessions).unwrap(), "{open} sessions");
        }
    });
}

#[test]
fn older_and_newer_function_lists_load() {
    on_faulty_with_all("quirks::older_and_newer_function_lists_load", |bench| {
        for (control, version) in [
            ("list-version = \"2.20\"", "2.20"),
            ("list-version = \"2.40\"\ninterface = \"3.0\"", "3.0"),
            ("interface = \"3.2\"", "3.2"),
        ] {
            bench.play(&format!("[module]\n{control}\n"));
            let tokens = bench.tokens();
            assert_eq!(tokens.module().cryptoki_version, version);
            works(&admit(&tokens, "one", PIN).unwrap());
        }
    });
}

#[test]
fn what_a_module_lacks_is_refused_and_what_it_cannot_do_without_is_named() {
    on_faulty_with_all("quirks::what_a_module_lacks_is_refused_and_what_it_cannot_do_without_is_named", |bench| {
        let per_call = "[module]\nlist-per-call = true\n";
        bench.play(&format!(
            "{per_call}absent = [\"C_GetInfo\", \"C_GetSessionInfo\", \"C_Logout\", \"C_GenerateRandom\", \"C_SetAttributeValue\", \"C_Verify*\", \"C_CreateObject\"]\n"
        ));
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        works(&token);
        assert!(token.random(1).is_err());
        let pair = make(&token, P256).unwrap();
        assert!(token.rename(Class::PublicKey, &pair.public.id, "new").is_err());
        assert_eq!(token.learnt().rename, Some(false));
        drop((token, tokens));
        bench.play(&format!("{per_call}absent = [\"C_SignInit\", \"C_FindObjectsFinal\"]\n"));
        match Module::load(&bench.module) {
            Err(error @ LoadError::Incomplete { .. }) => {
                assert!(error.to_string().contains("lacks C_FindObjectsFinal, C_SignInit\nhint: "), "{error}");
            }
            _ => panic!("loaded without C_Sign"),
        }
    });
}

#[test]
fn a_module_that_cannot_lock_is_called_by_one_thread_at_a_time() {
    on_faulty_with_all("quirks::a_module_that_cannot_lock_is_called_by_one_thread_at_a_time", |bench| {
        bench.play(&format!("[module]\nos-locking = \"CKR_CANT_LOCK\"\n{ONE_AT_A_TIME}"));
        by_many(bench, &Settings::new(bench.module.clone()));
    });
}

#[test]
fn a_module_that_is_not_safe_is_called_by_one_thread_at_a_time_if_the_operator_says_so() {
    on_faulty_with_all(
        "quirks::a_module_that_is_not_safe_is_called_by_one_thread_at_a_time_if_the_operator_says_so",
        |bench| {
            bench.play(ONE_AT_A_TIME);
            by_many(bench, &Settings { serialize: true, ..Settings::new(bench.module.clone()) });
        },
    );
}

/// Whoever calls while another does ends the process, as openCryptoki does.
const ONE_AT_A_TIME: &str = "[[fault]]\nfunctions = \"C_*\"\nconcurrent = true\nabort = true\n[[fault]]\nfunctions = [\"C_Sign\", \"C_FindObjects\"]\ndelay-ms = 1\n";

fn by_many(bench: &Bench, settings: &Settings) {
    let tokens = bench.tokens_as(settings);
    let token = admit(&tokens, "one", PIN).unwrap();
    let pair = make(&token, P256).unwrap();
    let together = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..20 {
                    token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
                    tokens.present().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_token_that_refuses_one_more_session_is_served_with_those_it_gave() {
    on_faulty_with_all("quirks::a_token_that_refuses_one_more_session_is_served_with_those_it_gave", |bench| {
        // It keeps a limit that it does not tell.
        bench.play("[token]\nmax-sessions = 3\nsays-max-sessions = 0\nsays-max-rw-sessions = 0\n[[fault]]\nfunctions = \"C_Sign\"\ndelay-ms = 2\n");
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        let together = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..10 {
                        token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
                    }
                });
            }
        });
    });
}

#[test]
fn mechanisms_that_the_operator_rules_out_are_not_there() {
    on_faulty("quirks::mechanisms_that_the_operator_rules_out_are_not_there", |bench| {
        let policy = cascade_hsm_bridge::pkcs11::Policy {
            omit_mechanisms: vec![MechanismType::SHA256_RSA_PKCS],
            ..Default::default()
        };
        let policies = vec![(cascade_hsm_bridge::pkcs11::Match::default(), policy)];
        let tokens = bench.tokens_as(&Settings { policies, ..Settings::new(bench.module.clone()) });
        let token = admit(&tokens, "one", PIN).unwrap();
        assert!(token.mechanisms().info(MechanismType::SHA256_RSA_PKCS).is_none());
        assert!(token.mechanisms().info(MechanismType::RSA_PKCS).is_some());
    });
}
