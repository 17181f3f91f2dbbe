//! Labels changed on both halves of a pair, or on none: clients give a key up of which only one half could be renamed.

use cascade_hsm_bridge::pkcs11::{Class, Curve, Error, KeyKind, KeyPair, Match, Policy, Settings, Token};

use crate::bench::{PIN, admit, make, on_faulty_with_all};

const P256: KeyKind = KeyKind::Ec(Curve::P256);
const FIXED: Error = Error::Fixed { attribute: "CKA_LABEL" };

fn labels(token: &Token, pair: &KeyPair) -> [String; 2] {
    [(Class::PublicKey, &pair.public), (Class::PrivateKey, &pair.private)]
        .map(|(class, key)| token.label(class, &key.id).unwrap().unwrap_or_default())
}

#[test]
fn a_refusal_is_learnt_and_the_token_not_asked_again() {
    on_faulty_with_all("renaming::a_refusal_is_learnt_and_the_token_not_asked_again", |bench| {
        // As NetHSM has it.
        bench.play("[[fault]]\nfunctions = \"C_SetAttributeValue\"\nrv = \"CKR_ATTRIBUTE_READ_ONLY\"\n");
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        assert_eq!(token.rename(Class::PublicKey, &pair.public.id, "new-pub"), Err(FIXED));
        assert_eq!(token.learnt().rename, Some(false));
        let asked = bench.count("C_SetAttributeValue");
        assert_eq!(asked, 1);
        for class in [Class::PrivateKey, Class::PublicKey] {
            assert_eq!(token.rename(class, &pair.private.id, "new"), Err(FIXED));
        }
        assert_eq!(bench.count("C_SetAttributeValue"), asked);
        assert_eq!(labels(&token, &pair), ["label-pub", "label-priv"]);
    });
}

#[test]
fn the_first_half_is_left_as_it_is_where_the_second_could_not_follow() {
    on_faulty_with_all("renaming::the_first_half_is_left_as_it_is_where_the_second_could_not_follow", |bench| {
        for (fixed, other) in [("CKO_PRIVATE_KEY", Class::PublicKey), ("CKO_PUBLIC_KEY", Class::PrivateKey)] {
            for rv in ["CKR_ATTRIBUTE_READ_ONLY", "CKR_ACTION_PROHIBITED", "CKR_TEMPLATE_INCONSISTENT"] {
                bench.play(&format!(
                    "[[fault]]\nfunctions = \"C_SetAttributeValue\"\nclass = \"{fixed}\"\nrv = \"{rv}\"\n"
                ));
                let tokens = bench.tokens();
                let token = admit(&tokens, "one", PIN).unwrap();
                let pair = make(&token, P256).unwrap();
                assert!(token.rename(other, &pair.public.id, "new").is_err(), "{fixed} {rv}");
                assert_eq!(labels(&token, &pair), ["label-pub", "label-priv"]);
            }
        }
    });
}

#[test]
fn once_both_halves_were_renamed_the_other_is_not_tried_first() {
    on_faulty_with_all("renaming::once_both_halves_were_renamed_the_other_is_not_tried_first", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, two) = (make(&token, P256).unwrap(), make(&token, P256).unwrap());
        token.rename(Class::PublicKey, &one.public.id, "one-pub").unwrap();
        assert_eq!((bench.count("C_SetAttributeValue"), token.learnt().rename), (2, Some(true)));
        token.rename(Class::PrivateKey, &one.private.id, "one-priv").unwrap();
        token.rename(Class::PublicKey, &two.public.id, "two-pub").unwrap();
        assert_eq!(bench.count("C_SetAttributeValue"), 4);
        assert_eq!(labels(&token, &one), ["one-pub", "one-priv"]);
        assert_eq!(labels(&token, &two), ["two-pub", "label-priv"]);
    });
}

#[test]
fn a_label_that_is_kept_otherwise_is_put_back() {
    on_faulty_with_all("renaming::a_label_that_is_kept_otherwise_is_put_back", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        bench.play("[[template]]\nfunctions = \"C_SetAttributeValue\"\nattribute = \"CKA_LABEL\"\nlonger-than = 10\ncut = 10\n");
        let refused = token.rename(Class::PublicKey, &pair.public.id, "longer-than-ten");
        assert_eq!(refused, Err(Error::NotTaken { attribute: "CKA_LABEL" }));
        assert_eq!(labels(&token, &pair), ["label-pub", "label-priv"]);
        token.rename(Class::PublicKey, &pair.public.id, "short").unwrap();
    });
}

#[test]
fn one_key_that_may_not_be_changed_says_nothing_of_the_others() {
    on_faulty_with_all("renaming::one_key_that_may_not_be_changed_says_nothing_of_the_others", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        bench.play(
            "[[fault]]\nfunctions = \"C_SetAttributeValue\"\nrv = \"CKR_ACTION_PROHIBITED\"\n\
             [[attribute]]\nattribute = \"CKA_MODIFIABLE\"\nvalue = false\n",
        );
        assert!(token.rename(Class::PublicKey, &pair.public.id, "new").is_err());
        bench.play("");
        token.rename(Class::PublicKey, &pair.public.id, "new").unwrap();
    });
}

#[test]
fn the_operator_decides_whether_labels_can_be_changed() {
    on_faulty_with_all("renaming::the_operator_decides_whether_labels_can_be_changed", |bench| {
        let policy = Policy { rename: Some(false), ..Policy::default() };
        let policies = vec![(Match::default(), policy)];
        let tokens = bench.tokens_as(&Settings { policies, ..Settings::new(bench.module.clone()) });
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        assert_eq!(token.rename(Class::PublicKey, &pair.public.id, "new"), Err(FIXED));
        assert_eq!(bench.count("C_SetAttributeValue"), 0);
    });
}
