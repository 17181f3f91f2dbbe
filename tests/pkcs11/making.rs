//! Keys on tokens that are particular about what is said of them: templates, curves, ids, labels.

use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::{
    Class, Curve, EcParams, Error, Filter, IdLength, KeyKind, KeyPair, KeyPairSpec, Labels, Match, Policy, PublicKey,
    Rung, Rungs, Settings, Token, Tokens, Usage,
};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;

use crate::bench::{Bench, PIN, admit, eddsa, make, on_faulty, on_faulty_with_all, sha256};

const P256: KeyKind = KeyKind::Ec(Curve::P256);
const ED25519: KeyKind = KeyKind::Ec(Curve::Ed25519);

/// The tokens of a module that behaves as `control` says, each treated by `policy`.
fn tokens(bench: &Bench, control: &str, policy: Policy) -> Tokens {
    bench.play(control);
    let policies = vec![(Match::default(), policy)];
    bench.tokens_as(&Settings { policies, ..Settings::new(bench.module.clone()) })
}

/// Makes a pair and signs with it.
fn signs(token: &Token, kind: KeyKind) {
    let pair = make(token, kind).unwrap();
    let (mechanism, data) = match kind {
        KeyKind::Rsa { .. } => (Mechanism::Sha256RsaPkcs, b"data".to_vec()),
        ED25519 => (eddsa(), b"data".to_vec()),
        _ => (Mechanism::Ecdsa, sha256(b"data")),
    };
    let signature = token.sign(&pair.private, &mechanism, &data).unwrap();
    assert!(token.verify(&pair.public, &mechanism, &data, &signature).unwrap());
}

fn refuse(functions: &str, rest: &str) -> String {
    format!("[[template]]\nfunctions = \"{functions}\"\n{rest}\n")
}

#[test]
fn says_no_usage_that_is_false_to_a_token_that_does_not_hear_it() {
    on_faulty_with_all("making::says_no_usage_that_is_false_to_a_token_that_does_not_hear_it", |bench| {
        // tpm2-pkcs11 has no better word for it; YubiHSM has it for CKA_UNWRAP.
        let control = ["CKA_ENCRYPT", "CKA_DECRYPT"].map(|attribute| {
            refuse(
                "C_GenerateKeyPair",
                &format!("attribute = \"{attribute}\"\nvalue = false\nrv = \"CKR_GENERAL_ERROR\""),
            )
        });
        let tokens = tokens(bench, &control.concat(), Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        // The first time it may have been trouble.
        signs(&token, P256);
        assert_eq!(token.learnt().shapes.ec.map(|shape| (shape.rung, shape.sure)), Some((Rung::Granted, false)));
        signs(&token, P256);
        assert_eq!(token.learnt().shapes.ec.map(|shape| (shape.rung, shape.sure)), Some((Rung::Granted, true)));
        signs(&token, KeyKind::Rsa { bits: 2048 });
        assert!(token.traits().iter().any(|known| known.to_string() == "template of ECDSA keys: granted"));
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 6, "a try left something");
    });
}

#[test]
fn the_operator_decides_how_much_is_said_of_new_keys() {
    on_faulty_with_all("making::the_operator_decides_how_much_is_said_of_new_keys", |bench| {
        let control = refuse("C_GenerateKeyPair", "attribute = \"CKA_LABEL\"\nrv = \"CKR_TEMPLATE_INCONSISTENT\"");
        let full = Policy { template: Rungs::all(Rung::Full), ..Policy::default() };
        let tokens = tokens(bench, &control, full);
        let token = admit(&tokens, "one", PIN).unwrap();
        let refused = make(&token, P256).unwrap_err();
        assert_eq!(refused.rv(), Some(RvError::TemplateInconsistent));
        drop((token, tokens));
        let unlabelled = Policy { template: Rungs::all(Rung::Unlabelled), ..Policy::default() };
        let tokens = self::tokens(bench, &control, unlabelled);
        signs(&admit(&tokens, "one", PIN).unwrap(), P256);
    });
}

#[test]
fn names_an_edwards_curve_as_the_token_understands_it() {
    on_faulty("making::names_an_edwards_curve_as_the_token_understands_it", |bench| {
        if bench.store().lacks("EC-EDWARDS-KEY-PAIR-GEN", "generate_key_pair") {
            return;
        }
        // YubiHSM knows the name only, NetHSM the identifier only.
        for (understood, refused, rv) in [
            (EcParams::Name, "0x06032b6570", "CKR_CURVE_NOT_SUPPORTED"),
            (EcParams::Oid, "0x130c656477617264733235353139", "CKR_FUNCTION_FAILED"),
        ] {
            let rule = format!("attribute = \"CKA_EC_PARAMS\"\nvalue = \"{refused}\"\nrv = \"{rv}\"");
            let tokens = tokens(bench, &refuse("C_GenerateKeyPair", &rule), Policy::default());
            let token = admit(&tokens, "one", PIN).unwrap();
            signs(&token, ED25519);
            assert_eq!(token.learnt().shapes.edwards.map(|shape| shape.form), Some(understood));
        }
    });
}

#[test]
fn reads_points_in_every_form() {
    on_faulty_with_all("making::reads_points_in_every_form", |bench| {
        let tokens = tokens(bench, "", Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        let edwards = (!bench.lacks_edwards()).then_some(ED25519);
        for kind in [P256, KeyKind::Ec(Curve::P384)].into_iter().chain(edwards) {
            let plain = make(&token, kind).unwrap();
            for form in ["raw", "bit-string"] {
                bench.play(&format!("[[attribute]]\nattribute = \"CKA_EC_POINT\"\nform = \"{form}\"\n"));
                let pair = make(&token, kind).unwrap();
                assert!(matches!(&pair.public.public, Some(PublicKey::Ec { .. })), "{kind:?} {form}");
                assert_eq!(pair.public.kind, plain.public.kind);
                bench.play("");
            }
        }
    });
}

/// How much the module itself lets be said of a new key.
fn usual_rung(bench: &Bench) -> Rung {
    let tokens = tokens(bench, "", Policy::default());
    let token = admit(&tokens, "one", PIN).unwrap();
    make(&token, P256).unwrap();
    token.learnt().shapes.ec.unwrap().rung
}

#[test]
fn gives_ids_of_the_length_that_the_token_takes() {
    on_faulty_with_all("making::gives_ids_of_the_length_that_the_token_takes", |bench| {
        let longer = |len: usize, rv: &str| {
            refuse("C_GenerateKeyPair", &format!("attribute = \"CKA_ID\"\nlonger-than = {len}\nrv = \"{rv}\""))
        };
        let usual = usual_rung(bench);
        for (limit, rv, taken) in [
            (16, "CKR_ATTRIBUTE_VALUE_INVALID", 16),
            (4, "CKR_ATTRIBUTE_VALUE_INVALID", 2),
            (2, "CKR_FUNCTION_FAILED", 2),
        ] {
            let tokens = tokens(bench, &longer(limit, rv), Policy::default());
            let token = admit(&tokens, "one", PIN).unwrap();
            for _ in 0..3 {
                assert_eq!(make(&token, P256).unwrap().private.id.len(), taken);
            }
            assert_eq!(token.learnt().id_length, Some(IdLength::Bytes(taken)));
            // It is the id that was too long, not what else is said.
            assert_eq!(token.learnt().shapes.ec.map(|shape| shape.rung), Some(usual));
        }
    });
}

#[test]
fn trouble_that_passes_does_not_shorten_all_ids_to_come() {
    on_faulty_with_all("making::trouble_that_passes_does_not_shorten_all_ids_to_come", |bench| {
        let fails = refuse("C_GenerateKeyPair", "attribute = \"CKA_ID\"\nlonger-than = 16\nrv = \"CKR_DEVICE_ERROR\"");
        let tokens = tokens(bench, &fails, Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        assert_eq!(make(&token, P256).unwrap().private.id.len(), 16);
        assert_eq!(token.learnt().id_length, None);
        bench.play("");
        assert_eq!(make(&token, P256).unwrap().private.id.len(), Settings::DEFAULT_ID_LENGTH);
        assert_eq!(token.learnt().id_length, Some(IdLength::Bytes(Settings::DEFAULT_ID_LENGTH)));
    });
}

#[test]
fn an_id_that_the_token_chooses_becomes_the_identifier() {
    on_faulty_with_all("making::an_id_that_the_token_chooses_becomes_the_identifier", |bench| {
        for (control, len) in [
            // YubiHSM, OpenSC: it picks one where none is given, the same for both halves.
            ("[objects]\nid-when-none = 2\nsame-id = true\n", 2),
            // It replaces the one that is given.
            ("[objects]\nid-length = 4\n", 4),
            // It gives none, but takes one afterwards.
            ("", 20),
        ] {
            let chosen = Policy { id_length: Some(IdLength::Chosen), ..Policy::default() };
            let tokens = tokens(bench, control, chosen);
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, P256).unwrap();
            assert_eq!((pair.private.id.len(), &pair.private.id), (len, &pair.public.id), "{control}");
            assert!(token.key(Class::PrivateKey, &pair.private.id).is_ok());
            assert!(token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).is_ok());
        }
        // And where any id at all is refused.
        let refused = refuse("C_GenerateKeyPair", "attribute = \"CKA_ID\"\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"");
        let tokens =
            tokens(bench, &format!("[objects]\nid-when-none = 2\nsame-id = true\n{refused}"), Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        assert_eq!(make(&token, P256).unwrap().public.id.len(), 2);
        assert_eq!(token.learnt().id_length, Some(IdLength::Chosen));
    });
}

/// What dnst calls a key first: 64 hexadecimal digits.
fn first_name() -> String {
    "0123456789abcdef".repeat(4)
}

fn spec(name: &str) -> KeyPairSpec<'_> {
    KeyPairSpec {
        kind: P256,
        public_label: Some(name),
        private_label: Some(name),
        usage: Usage { sign: true, verify: true, ..Usage::default() },
    }
}

#[test]
fn cuts_labels_to_what_the_token_takes_and_finds_keys_by_their_whole_names() {
    on_faulty_with_all("making::cuts_labels_to_what_the_token_takes_and_finds_keys_by_their_whole_names", |bench| {
        let name = first_name();
        let too_long = refuse(
            "C_GenerateKeyPair",
            "attribute = \"CKA_LABEL\"\nlonger-than = 40\nrv = \"CKR_ATTRIBUTE_VALUE_INVALID\"",
        );
        let tokens = tokens(bench, &too_long, Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = token.generate_key_pair(&spec(&name)).unwrap();
        assert_eq!(token.learnt().labels, Some(Labels::Short));
        assert_eq!(token.label(Class::PrivateKey, &pair.private.id).unwrap().as_deref(), Some(&name[..32]));
        let found = token.list(&Filter { label: Some(&name), ..Filter::default() }).unwrap();
        assert_eq!(found.len(), 2);
        // What dnst calls it afterwards fits.
        token.rename(Class::PublicKey, &pair.public.id, "example.org-4711-ksk-pub").unwrap();
        token.rename(Class::PrivateKey, &pair.private.id, "example.org-4711-ksk-pri").unwrap();
        assert_eq!(
            token.label(Class::PublicKey, &pair.public.id).unwrap().as_deref(),
            Some("example.org-4711-ksk-pub")
        );
        drop((token, tokens));
        // The same, decided.
        let policy = Policy { label_max: Some(40), ..Policy::default() };
        let tokens = self::tokens(bench, &too_long, policy);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = token.generate_key_pair(&spec(&name)).unwrap();
        assert_eq!(token.label(Class::PrivateKey, &pair.private.id).unwrap().as_deref(), Some(&name[..40]));
    });
}

#[test]
fn makes_keys_without_labels_where_none_are_taken() {
    on_faulty_with_all("making::makes_keys_without_labels_where_none_are_taken", |bench| {
        let never = refuse("C_GenerateKeyPair", "attribute = \"CKA_LABEL\"\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"");
        let tokens = tokens(bench, &never, Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = token.generate_key_pair(&spec(&first_name())).unwrap();
        assert_eq!(token.label(Class::PrivateKey, &pair.private.id), Ok(None));
        assert_eq!(token.learnt().labels, Some(Labels::Refused));
        drop((token, tokens));
        let tokens = self::tokens(bench, "", Policy { label_max: Some(0), ..Policy::default() });
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = token.generate_key_pair(&spec("name")).unwrap();
        assert_eq!(token.label(Class::PrivateKey, &pair.private.id), Ok(None));
        // No name is every object's.
        assert_eq!(token.list(&Filter { label: Some("name"), ..Filter::default() }), Ok(Vec::new()));
        assert!(matches!(token.rename(Class::PrivateKey, &pair.private.id, "x"), Err(Error::Fixed { .. })));
    });
}

#[test]
fn a_token_with_labels_of_its_own_makes_keys_all_the_same() {
    on_faulty_with_all("making::a_token_with_labels_of_its_own_makes_keys_all_the_same", |bench| {
        let tokens = tokens(bench, "[objects]\nlabel-is-id = true\n", Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        signs(&token, P256);
        assert_eq!(token.learnt().labels, Some(Labels::Own));
    });
}

#[test]
fn adds_replaces_and_leaves_out_what_the_operator_says() {
    on_faulty_with_all("making::adds_replaces_and_leaves_out_what_the_operator_says", |bench| {
        // nShield wants CKA_PRIVATE of a public key to be false, and Luna of a private one to be true.
        let wants = refuse(
            "C_GenerateKeyPair",
            "class = \"CKO_PUBLIC_KEY\"\nattribute = \"CKA_PRIVATE\"\nmissing = true\nrv = \"CKR_TEMPLATE_INCOMPLETE\"",
        ) + &refuse("C_GenerateKeyPair", "attribute = \"CKA_WRAP\"\nrv = \"CKR_TEMPLATE_INCONSISTENT\"")
            + &refuse("C_GenerateKeyPair", "duplicate = true\nrv = \"CKR_TEMPLATE_INCONSISTENT\"");
        let usual = usual_rung(bench);
        let tokens = tokens(bench, &wants, Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        assert!(make(&token, P256).is_err());
        drop((token, tokens));
        let mut policy = Policy::default();
        policy.key_template.all.public.add = vec![(0x2, vec![0])];
        policy.key_template.ec.public.omit = vec![0x106];
        let tokens = self::tokens(bench, &wants, policy);
        let token = admit(&tokens, "one", PIN).unwrap();
        signs(&token, P256);
        assert_eq!(token.learnt().shapes.ec.map(|shape| shape.rung), Some(usual));
        assert!(make(&token, KeyKind::Rsa { bits: 2048 }).is_ok(), "saying less would have done");
    });
}

#[test]
fn stores_no_public_key_where_the_private_one_tells_it() {
    on_faulty_with_all("making::stores_no_public_key_where_the_private_one_tells_it", |bench| {
        if bench.deals_handles_twice() {
            return;
        }
        let policy = || Policy { store_public_key: Some(false), ..Policy::default() };
        let tokens = tokens(bench, "", policy());
        let token = admit(&tokens, "one", PIN).unwrap();
        let count = || token.list(&Filter { class: Some(Class::PublicKey), ..Filter::default() }).unwrap().len();
        let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        assert_eq!((count(), token.learnt().public_objects), (0, Some(false)));
        let private = token.key(Class::PrivateKey, &pair.private.id).unwrap();
        assert_eq!(private.public, pair.public.public);
        // A point that the private key does not tell would be lost.
        let silent = |attribute| {
            format!(
                "[[attribute]]\nattribute = \"{attribute}\"\nclass = \"CKO_PRIVATE_KEY\"\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"\n"
            )
        };
        bench.play(&(silent("CKA_EC_POINT") + &silent("CKA_PUBLIC_KEY_INFO")));
        make(&token, P256).unwrap();
        assert_eq!(count(), 1);
        drop((token, tokens));
        // NetHSM: both halves are one object.
        let tokens = self::tokens(bench, "[objects]\ndestroy-pair = true\ndestroy-private = true\n", policy());
        let token = admit(&tokens, "one", PIN).unwrap();
        let lost = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap_err();
        assert!(matches!(lost, Error::NotTaken { .. }), "{lost}");
        // It is learnt from, and the next one stays.
        signs(&token, KeyKind::Rsa { bits: 2048 });
    });
}

#[test]
fn what_could_not_be_completed_is_removed_and_nothing_else() {
    on_faulty_with_all("making::what_could_not_be_completed_is_removed_and_nothing_else", |bench| {
        let open = "[[attribute]]\nattribute = \"CKA_SENSITIVE\"\nvalue = false\n\
                    [[attribute]]\nattribute = \"CKA_EXTRACTABLE\"\nvalue = true\n";
        // The handle of the public half leads to another object, by what is read of it.
        let other = "[[attribute]]\nattribute = \"CKA_ID\"\nclass = \"CKO_PUBLIC_KEY\"\nvalue = \"0x0102\"\n";
        for (control, attribute, left) in
            [(open.to_owned(), "CKA_SENSITIVE", 0), (format!("{open}{other}"), "CKA_ID", 1)]
        {
            let tokens = tokens(bench, &control, Policy::default());
            let token = admit(&tokens, "one", PIN).unwrap();
            assert_eq!(make(&token, P256).unwrap_err(), Error::NotTaken { attribute });
            assert_eq!(token.list(&Filter::default()).unwrap().len(), left);
        }
    });
}

#[test]
fn a_handle_that_leads_to_another_key_is_not_taken_for_the_new_one() {
    on_faulty_with_all("making::a_handle_that_leads_to_another_key_is_not_taken_for_the_new_one", |bench| {
        let other = |class: &str| {
            let id = "attribute = \"CKA_ID\"\nvalue = \"0x0102\"";
            format!("[[attribute]]\nclass = {class:?}\n{id}\n")
        };
        let (public, private) = (other("CKO_PUBLIC_KEY"), other("CKO_PRIVATE_KEY"));
        for (control, destroyed) in [(public.clone(), 1), (private.clone(), 1), (public + &private, 0)] {
            let tokens = tokens(bench, &control, Policy::default());
            let token = admit(&tokens, "one", PIN).unwrap();
            let before = bench.count("C_DestroyObject");
            assert_eq!(make(&token, P256).unwrap_err(), Error::NotTaken { attribute: "CKA_ID" });
            assert_eq!(bench.count("C_DestroyObject"), before + destroyed, "by a handle of another");
            tokens.finalize();
        }
    });
}

#[test]
fn trouble_after_a_refused_template_leaves_no_pair_behind() {
    on_faulty_with_all("making::trouble_after_a_refused_template_leaves_no_pair_behind", |bench| {
        let refused = refuse(
            "C_GenerateKeyPair",
            "attribute = \"CKA_DECRYPT\"\nvalue = false\nrv = \"CKR_TEMPLATE_INCONSISTENT\"",
        );
        let lost = |answered: &str, rv: &str| {
            format!("{refused}[[fault]]\nfunctions = \"C_GenerateKeyPair\"\n{answered}next = 1\nrv = {rv:?}\n")
        };
        let works = "answered = \"CKR_OK\"\n";
        for rv in ["CKR_DEVICE_REMOVED", "CKR_GENERAL_ERROR"] {
            let tokens = tokens(bench, &lost(works, rv), Policy::default());
            let token = admit(&tokens, "one", PIN).unwrap();
            let error = make(&token, P256).unwrap_err();
            assert!(matches!(&error, Error::Unsettled { .. }), "{rv}: {error}");
            assert_eq!(token.list(&Filter::default()).unwrap(), [], "{rv}");
            tokens.finalize();
        }
        // What was lost between two tries is repaired, and says nothing of the template.
        let tokens = tokens(bench, &lost("skip = 1\n", "CKR_USER_NOT_LOGGED_IN"), Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        signs(&token, P256);
        assert_eq!(token.learnt().shapes.ec.map(|shape| (shape.rung, shape.sure)), Some((Rung::Granted, true)));
        assert_eq!(token.learnt().id_length, Some(IdLength::Bytes(Settings::DEFAULT_ID_LENGTH)));
    });
}

#[test]
fn a_login_that_is_lost_where_sessions_say_that_it_stands_costs_no_key() {
    on_faulty_with_all("making::a_login_that_is_lost_where_sessions_say_that_it_stands_costs_no_key", |bench| {
        let tokens = tokens(bench, "", Policy { template: bench.template(), ..Policy::default() });
        let token = admit(&tokens, "one", PIN).unwrap();
        token.random(8).unwrap();
        bench.happen_with("logout", "[token]\nsession-state = \"rw-user\"\n");
        signs(&token, P256);
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
    });
}

#[test]
fn a_pair_that_was_made_as_its_session_was_lost_is_removed_and_another_made() {
    on_faulty_with_all("making::a_pair_that_was_made_as_its_session_was_lost_is_removed_and_another_made", |bench| {
        let policy = || Policy { template: bench.template(), ..Policy::default() };
        for rv in ["CKR_SESSION_HANDLE_INVALID", "CKR_USER_NOT_LOGGED_IN"] {
            let lost = format!("[[fault]]\nfunction = \"C_GenerateKeyPair\"\nafter = true\nnext = 1\nrv = {rv:?}\n");
            let tokens = tokens(bench, "", policy());
            let token = admit(&tokens, "one", PIN).unwrap();
            let before = token.list(&Filter::default()).unwrap().len();
            bench.play(&lost);
            signs(&token, P256);
            assert_eq!(token.list(&Filter::default()).unwrap().len(), before + 2, "one pair, not two");
            // Once.
            bench.play(&lost.replace("next = 1", "next = 2"));
            let error = make(&token, P256).unwrap_err();
            assert!(matches!(&error, Error::Unsettled { outcome, .. } if outcome.contains("removed")), "{error}");
            assert_eq!(token.list(&Filter::default()).unwrap().len(), before + 2);
            bench.play("");
            tokens.finalize();
        }
    });
}

#[test]
fn of_a_pair_that_cannot_be_looked_for_it_is_said_that_it_may_be_there() {
    on_faulty_with_all("making::of_a_pair_that_cannot_be_looked_for_it_is_said_that_it_may_be_there", |bench| {
        let lost = |more: &str| {
            format!("[[fault]]\nfunctions = \"C_GenerateKeyPair\"\n{more}next = 1\nrv = \"CKR_DEVICE_REMOVED\"\n")
        };
        let template = bench.template();
        // Two bytes may be another's by now; what the token would have chosen, nobody knows.
        for (length, more, left, says) in [
            (IdLength::Bytes(2), "", 0, "the key pair was not made"),
            (IdLength::Bytes(2), "answered = \"CKR_OK\"\n", 2, "whether the key pair was made is not known"),
            (IdLength::Chosen, "answered = \"CKR_OK\"\n", 4, "whether the key pair was made is not known"),
        ] {
            let policy = Policy { id_length: Some(length), template, ..Policy::default() };
            let tokens = tokens(bench, &lost(more), policy);
            let token = admit(&tokens, "one", PIN).unwrap();
            let error = make(&token, P256).unwrap_err();
            assert!(matches!(&error, Error::Unsettled { outcome, .. } if *outcome == says), "{error}");
            assert_eq!(token.list(&Filter::default()).unwrap().len(), left);
            tokens.finalize();
        }
    });
}

#[test]
fn a_pair_that_is_removed_again_costs_no_other_its_key() {
    on_faulty_with_all("making::a_pair_that_is_removed_again_costs_no_other_its_key", |bench| {
        const NUMBERED: &str = "[objects]\nnumber-handles = true\n";
        let tokens = tokens(bench, NUMBERED, Policy::default());
        let token = admit(&tokens, "one", PIN).unwrap();
        let other = make(&token, P256).unwrap();
        bench.happen_with("logout", NUMBERED);
        // Logs in again, and sees no object.
        assert!(token.key(Class::PrivateKey, b"nobody").is_err());
        // Its halves are the first to be seen after that login. When they have been found, to be removed, handles are dealt anew.
        let lost =
            "[[fault]]\nfunctions = \"C_GenerateKeyPair\"\nafter = true\nnext = 1\nrv = \"CKR_DEVICE_REMOVED\"\n";
        let found = "[[fault]]\nfunctions = \"C_FindObjectsFinal\"\nevents = \"logout\"\nhang = true\nnext = 1\n";
        bench.play(&format!("{NUMBERED}{lost}{found}"));
        let made = disturbed(bench, &token, &other, NUMBERED);
        assert!(matches!(made, Err(Error::Unsettled { .. })));
        for class in [Class::PrivateKey, Class::PublicKey] {
            assert!(token.label(class, &other.private.id).is_ok(), "{class}");
        }
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
    });
}

#[test]
fn a_pair_is_not_taken_for_another_whose_handles_it_had() {
    on_faulty_with_all("making::a_pair_is_not_taken_for_another_whose_handles_it_had", |bench| {
        const NUMBERED: &str = "[objects]\nnumber-handles = true\n";
        for store_public_key in [None, Some(false)] {
            bench.play(NUMBERED);
            let policies = vec![(Match::default(), Policy { store_public_key, ..Policy::default() })];
            // A search does not wait long for the key to be made.
            let call_timeout = Duration::from_secs(1);
            let tokens = bench.tokens_as(&Settings { policies, call_timeout, ..Settings::new(bench.module.clone()) });
            let token = admit(&tokens, "one", PIN).unwrap();
            let earlier = token.list(&Filter::default()).unwrap().len();
            let other = make(&token, P256).unwrap();
            let before = token.list(&Filter::default()).unwrap();
            bench.happen_with("logout", NUMBERED);
            assert!(token.key(Class::PrivateKey, b"nobody").is_err());
            // It has been made, and is about to be read back, when handles are dealt anew.
            let reads = "[[fault]]\nfunctions = \"C_GetAttributeValue\"\nevents = \"logout\"\nhang = true\nnext = 1\n";
            bench.play(&format!("{NUMBERED}{reads}"));
            // It is removed, and another is made.
            let made = disturbed(bench, &token, &other, NUMBERED).unwrap();
            assert_ne!(made.private.id, other.private.id);
            let after = token.list(&Filter::default()).unwrap();
            assert!(before.iter().all(|object| after.contains(object)));
            assert_eq!(after.len() - before.len(), before.len() - earlier, "one pair, not two");
            token.sign(&made.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
            tokens.finalize();
        }
    });
}

/// Makes a pair, and signs with another once a call hangs.
fn disturbed(bench: &Bench, token: &Token, other: &KeyPair, control: &str) -> Result<KeyPair, Error> {
    thread::scope(|scope| {
        let makes = scope.spawn(|| make(token, P256));
        let since = Instant::now();
        while bench.count("calls-hanging") == 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "nothing waits");
            thread::sleep(Duration::from_millis(5));
        }
        let hash = sha256(b"data");
        let signed = token.sign(&other.private, &Mechanism::Ecdsa, &hash).inspect(|signature| {
            // The token may have no object for that.
            drop(token.verify(&other.public, &Mechanism::Ecdsa, &hash, signature));
        });
        bench.play(control);
        assert!(signed.is_ok(), "{signed:?}");
        makes.join().unwrap()
    })
}
