//! Tokens and modules that misbehave.

use std::process::Command;

use super::place::{Place, Said, knows_the_hints};
use super::support::{Faulty, KeySpec, until};

/// Long enough for a call on a busy machine, and waited for in full where one hangs.
const SECONDS: u32 = 4;

/// Where none hangs: a TPM takes its time to make RSA keys.
const PATIENCE: u32 = 60;

/// A token that has P-256 alone, for which keys are soon made.
const P_256: &str = "[mechanisms]\nonly = ['CKM_EC_KEY_PAIR_GEN', 'CKM_ECDSA']\n\
    [[template]]\nattribute = 'CKA_EC_PARAMS'\nlonger-than = 10\nrv = 'CKR_CURVE_NOT_SUPPORTED'\n\
    [[template]]\nattribute = 'CKA_EC_PARAMS'\nshorter-than = 10\nrv = 'CKR_CURVE_NOT_SUPPORTED'\n";

/// The same of one that makes none on curves.
const RSA: &str = "[mechanisms]\nonly = ['CKM_RSA_PKCS_KEY_PAIR_GEN', 'CKM_RSA_PKCS']\n";

fn play(place: &Place, faulty: &Faulty, control: &str) {
    let quickest = if place.quickest() == "P-256" { P_256 } else { RSA };
    faulty.play(&format!("{control}\n{quickest}"));
}

#[test]
fn a_wrong_pin_is_tried_once_and_the_hint_is_the_vendors() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    place.write_pin("pin-0000");
    let said = place.check_in(&["--sign"]);
    let line = said.line("FAIL  login: with the PIN of --pin-file: wrong PIN");
    assert!(!knows_the_hints() || line.contains("hint: SoftHSM: the PIN is the one of softhsm2-util"), "{line}");
    assert_eq!((said.code, faulty.count("C_Login")), (Some(1), 1));
}

#[test]
fn never_logs_in_where_a_wrong_pin_would_lock_the_token() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    for (flag, line) in [
        ("CKF_USER_PIN_FINAL_TRY", "FAIL  login: not tried: one more wrong PIN would lock the token"),
        ("CKF_USER_PIN_LOCKED", "FAIL  login: not tried: the token's PIN is locked"),
        ("CKF_USER_PIN_COUNT_LOW", "warn  login: not tried: wrong PINs were tried since the last right one"),
    ] {
        faulty.play(&format!("[token]\nset-flags = ['{flag}']\n"));
        assert!(place.check_in(&["--sign"]).line(line).contains("\n      hint: "));
        assert_eq!(faulty.count("C_Login"), 0);
    }
    place.check_in(&["--try-low-pin"]).went_well();
    assert_eq!(faulty.count("C_Login"), 1);
    faulty.play("[token]\nset-flags = ['CKF_USER_PIN_FINAL_TRY']\n");
    place.check_in(&["--try-low-pin"]).line("FAIL  login: not tried");
    assert_eq!(faulty.count("C_Login"), 1);
}

#[test]
fn a_login_that_the_token_refuses_is_told_with_its_words() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    faulty.play("[[fault]]\nfunction = 'C_Login'\nrv = 'CKR_DEVICE_ERROR'\n");
    let said = place.check_in(&[]);
    said.line(
        "FAIL  login: with the PIN of --pin-file: the token cannot judge a PIN: C_Login: CKR_DEVICE_ERROR (0x30)",
    );
    assert_eq!(said.code, Some(1));
}

#[test]
fn a_token_of_one_session_is_tried_with_it() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    play(&place, &faulty, "[token]\nmax-sessions = 1\nmax-rw-sessions = 1\n");
    let said = place.check_in(&["--sign"]);
    said.line("warn  sessions: the token allows 1: one request is served at a time");
    assert!(said.line("ok    signatures: ").ends_with(" with 1"));
    said.went_well();
    place.assert_empty();
}

#[test]
fn a_token_that_is_full_is_told_of_as_far_as_it_says() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    let said = |public: i64, private: i64| {
        faulty.play(&format!("[token]\nfree-public-memory = {public}\nfree-private-memory = {private}\n"));
        place.check_in(&[])
    };
    said(4096, 2048).line("ok    memory: free for public objects 4096 bytes, for private ones 2048 bytes");
    said(-1, 2048).line("ok    memory: free for public objects unknown, for private ones 2048 bytes");
    said(4096, 0).line("warn  memory: free for public objects 4096 bytes, for private ones 0 bytes");
    said(-1, -1).lacks("ok    memory: ");
}

#[test]
fn a_call_that_does_not_return_is_named_and_what_was_made_is_destroyed() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, SECONDS);
    play(&place, &faulty, "[[fault]]\nfunction = 'C_Sign'\nquery = false\nhang = true\n");
    let said = place.check_in(&["--sign"]);
    let line = said.line(&format!("FAIL  module: C_Sign has not returned after {SECONDS} s"));
    assert!(line.contains("hint: the HSM may be away"), "{line}");
    said.line("ok    left over: what had been made was destroyed");
    assert_eq!(said.code, Some(1));
    place.assert_empty();
}

#[test]
fn names_whichever_call_hangs() {
    for (call, args, named) in [
        ("C_Initialize", &[][..], "C_Initialize has not returned after 6 s"),
        ("C_GetTokenInfo", &[][..], "C_GetSlotList or C_GetTokenInfo has not"),
        ("C_OpenSession", &[][..], "C_OpenSession has not"),
        ("C_Login", &[][..], "C_Login has not"),
        ("C_SetAttributeValue", &["--sign"][..], "C_SetAttributeValue has not"),
        ("C_CreateObject", &["--data-objects"][..], "C_CreateObject has not"),
    ] {
        let faulty = Faulty::new();
        let place = Place::with(&faulty, 2);
        play(&place, &faulty, &format!("[[fault]]\nfunction = '{call}'\nhang = true\n"));
        let said = place.check_in(args);
        said.line(&format!("FAIL  module: {named}"));
        assert_eq!(said.code, Some(1));
        place.assert_empty();
    }
}

#[test]
fn a_module_that_crashes_is_told_of_and_what_was_made_is_destroyed() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, SECONDS);
    play(&place, &faulty, "[[fault]]\nfunction = 'C_Sign'\nquery = false\nskip = 1\nabort = true\n");
    // The faulty module tells of its end on standard error.
    let said = Said::of(place.start_in(&["--sign"]).wait_with_output().unwrap());
    let line = said.line("FAIL  module: the process that had it loaded died during C_Sign: signal: 6");
    assert!(line.contains("\n      hint: "), "{line}");
    said.line("ok    left over: what had been made was destroyed");
    assert_eq!(said.code, Some(1));
    place.assert_empty();
}

#[test]
fn what_cannot_be_destroyed_is_named() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    play(&place, &faulty, "[[fault]]\nfunction = 'C_DestroyObject'\nrv = 'CKR_ACTION_PROHIBITED'\n");
    let said = place.check_in(&["--sign"]);
    assert_eq!(said.code, Some(1));
    let failed = said.line(&format!("FAIL  sign {}: ", place.quickest()));
    assert!(failed.contains("not destroyed: C_DestroyObject: CKR_ACTION_PROHIBITED"));
    let objects = place.token.objects();
    // Keys of RSA that signatures are counted with are others than the first.
    let pairs = if place.quickest() == "P-256" { 1 } else { 2 };
    assert_eq!(objects.len(), 2 * pairs, "{objects:#?}");
    for object in objects {
        let class = if object.starts_with("Private") { "private key" } else { "public key" };
        let id = object.split_once("ID:").unwrap().1.lines().next().unwrap().trim().to_uppercase();
        said.line(&format!("FAIL  left over: the {class} with the CKA_ID {id} may still be on the token"));
    }
    play(&place, &faulty, "");
    let said = place.check_in(&["--sign"]);
    let told =
        said.text.matches("warn  left over: a private key of an earlier check is there, with the CKA_ID ").count();
    assert_eq!(told, pairs, "{}", said.text);
    said.went_well();
}

#[test]
fn a_wrong_signature_is_found_here_and_not_by_the_token() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    faulty.play("[[fault]]\nfunction = 'C_Sign'\nquery = false\ncorrupt = true\n[[fault]]\nfunctions = 'C_Verify*'\nrv = 'CKR_OK'\n");
    let said = place.check_in(&["--sign"]);
    said.line("FAIL  sign RSA-2048: PKCS#1 v1.5 with SHA-256: the signature is wrong");
    if place.quickest() == "P-256" {
        said.line("FAIL  sign P-256: ECDSA: the signature is wrong");
    }
    assert_eq!(said.code, Some(1));
    place.assert_empty();
}

#[test]
fn one_algorithm_that_fails_does_not_keep_the_others_from_being_tried() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    if place.token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    faulty.play("[[fault]]\nfunction = 'C_GenerateKeyPair'\nmechanism = 'CKM_RSA_PKCS_KEY_PAIR_GEN'\nrv = 'CKR_DEVICE_MEMORY'\n");
    let said = place.check_in(&["--sign"]);
    said.line("FAIL  sign RSA-2048: not made: C_GenerateKeyPair: CKR_DEVICE_MEMORY");
    said.line("ok    sign P-256: ");
    assert_eq!(said.code, Some(1));
    place.assert_empty();
}

#[test]
fn a_curve_that_the_token_does_not_have_is_no_failure() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    if place.token.cannot_make(&KeySpec::ecdsa(384)) {
        return;
    }
    faulty.play(
        "[[template]]\nattribute = 'CKA_EC_PARAMS'\nvalue = '0x06052b81040022'\nrv = 'CKR_CURVE_NOT_SUPPORTED'\n",
    );
    let said = place.check_in(&["--sign"]);
    said.line("warn  sign P-384: not made: C_GenerateKeyPair: CKR_CURVE_NOT_SUPPORTED");
    said.went_well();
}

#[test]
fn tells_what_a_token_with_few_mechanisms_cannot_do() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    faulty.play("[mechanisms]\nonly = ['CKM_RSA_PKCS_KEY_PAIR_GEN', 'CKM_RSA_PKCS']\n");
    let said = place.check_in(&["--sign"]);
    let line = said.line("ok    mechanism RSA: ");
    assert!(line.contains("PKCS#1 v1.5 with SHA-256 by CKM_RSA_PKCS of a digest made here; "), "{line}");
    assert!(line.ends_with("; no PSS with SHA-256"), "{line}");
    said.line("warn  mechanism P-256: not made, as there is no CKM_EC_KEY_PAIR_GEN; no ECDSA");
    said.line("ok    sign RSA-2048: ");
    said.line("ok    signatures: RSA-2048 per second");
    said.went_well();
    faulty.play("[mechanisms]\nonly = ['CKM_SHA256']\n");
    let said = place.check_in(&[]);
    said.line("FAIL  mechanisms: none with which a signer's keys could be made and used");
    assert_eq!(said.code, Some(1));
}

#[test]
fn tells_what_a_module_without_some_functions_cannot_do() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    play(&place, &faulty, "[module]\nabsent = ['C_SetAttributeValue', 'C_GenerateRandom']\n");
    let said = place.check_in(&["--sign"]);
    said.line("warn  module: it has no C_SetAttributeValue: keys cannot be renamed");
    said.line("warn  module: it has no C_GenerateRandom: there is no RNG Retrieve");
    said.line("warn  rename: ");
    said.went_well();
    place.assert_empty();
}

#[test]
fn a_token_that_is_away_or_absent_is_told_with_what_to_do() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, PATIENCE);
    faulty.play("[token]\naway = true\n");
    let said = place.check_in(&[]);
    let line = said.line("FAIL  token: there is no initialised token");
    assert!(!knows_the_hints() || line.contains("hint: SoftHSM: softhsm2-util --init-token"), "{line}");
    faulty.play("[module]\nneeds-env = ['VENDOR_CONF']\n");
    let said = place.check_in(&[]);
    said.line("FAIL  module: PKCS#11 module ");
    assert!(said.text.contains("C_Initialize: CKR_GENERAL_ERROR"), "{}", said.text);
}

#[test]
fn a_token_without_data_objects_is_told_of_as_such() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, SECONDS);
    faulty.play("[[template]]\nclass = 'CKO_DATA'\nrv = 'CKR_ATTRIBUTE_VALUE_INVALID'\n");
    let said = place.check_in(&["--data-objects"]);
    let line = said.line("warn  data objects: not made: C_CreateObject: CKR_ATTRIBUTE_VALUE_INVALID");
    assert!(line.ends_with("\n      hint: that does no harm: the bridge keeps nothing in data objects"), "{line}");
    said.went_well();
    // As OpenSC's does, with each: nothing is in the way of serving, but one stays behind.
    faulty.play("[[fault]]\nfunction = 'C_DestroyObject'\nclass = 'CKO_DATA'\nrv = 'CKR_ARGUMENTS_BAD'\n");
    let said = place.check_in(&["--data-objects"]);
    let line = said.line("warn  data objects: private ones: not destroyed: C_DestroyObject: CKR_ARGUMENTS_BAD");
    assert!(line.ends_with("\n      hint: that does no harm: the bridge keeps nothing in data objects"), "{line}");
    said.line("FAIL  left over: the data object labelled bridge-check-");
    // As YubiHSM's module does: made, and then nothing comes back.
    play(&place, &faulty, "[[template]]\nclass = 'CKO_DATA'\nwith = { CKA_PRIVATE = true }\njam = true\n");
    let said = place.check_in(&["--sign", "--data-objects"]);
    said.line(&format!("ok    sign {}: ", place.quickest()));
    said.line("FAIL  module: C_FindObjects or C_GetAttributeValue has not returned");
    said.line("ok    left over: what had been made was destroyed");
    // As OpenSC's does.
    faulty.play("[[template]]\nclass = 'CKO_DATA'\nabort = true\n");
    let said = Said::of(place.start_in(&["--data-objects"]).wait_with_output().unwrap());
    said.line("FAIL  module: the process that had it loaded died during C_CreateObject: signal: 6");
    assert_eq!(said.code, Some(1));
}

#[test]
fn destroys_what_it_made_when_it_is_interrupted() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, 60);
    play(&place, &faulty, "[[fault]]\nfunction = 'C_Sign'\nquery = false\nhang = true\nnext = 1\n");
    let child = place.start_in(&["--sign"]);
    until("it signs", || faulty.count("calls-hanging") == 1);
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let said = Said::of(child.wait_with_output().unwrap());
    said.line("FAIL  process: interrupted by signal 15 during C_Sign");
    said.line("ok    left over: what had been made was destroyed");
    assert_eq!(said.code, Some(1));
    place.assert_empty();
}
