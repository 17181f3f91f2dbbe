//! What to do about a failure, as each vendor's product wants it.

use std::path::Path;

use super::place::{Place, Said, plays_no_profiles};
use super::support::profile::Profile;

/// Each profile, and what the vendor is called by whom it is played.
const PROFILES: [(&str, &str); 23] = [
    ("aws-cloudhsm", "AWS CloudHSM"),
    ("dpod", "Luna"),
    ("fortanix", "Fortanix"),
    ("google-kms", "Google Cloud KMS"),
    ("kryoptic", "Kryoptic"),
    ("luna", "Luna"),
    ("nethsm-1.7", "NetHSM"),
    ("nethsm-2", "NetHSM"),
    ("nethsm-2-pin", "NetHSM"),
    ("nshield", "nShield"),
    ("nss", "NSS"),
    ("opencryptoki", "openCryptoki"),
    ("p11-kit-remote", "p11-kit"),
    ("piv", "OpenSC"),
    ("pkcs11-spy", "SoftHSM"),
    ("securosys", "Securosys Primus"),
    ("smartcard-hsm", "OpenSC"),
    ("softhsm", "SoftHSM"),
    ("tpm2-pkcs11", "tpm2-pkcs11"),
    ("utimaco", "Utimaco"),
    ("without-locks", "SoftHSM"),
    ("yubihsm2", "YubiHSM 2"),
    ("yubihsm2-plain", "YubiHSM 2"),
];

/// The command on what plays a vendor's module, in a control file's words of the moment.
fn check(place: &Place, control: &str) -> Said {
    place.faulty.as_ref().unwrap().play(control);
    let token = place.name.as_deref().map(|name| vec!["--token", name]).unwrap_or_default();
    Said::of(place.start_in(&token).wait_with_output().unwrap())
}

#[track_caller]
fn assert_hint(said: &Said, beginning: &str, vendor: &str) {
    let line = said.line(beginning);
    assert!(line.contains(&format!("\n      hint: {vendor}: ")), "{vendor}: {line}");
}

#[test]
fn a_wrong_pin_or_no_token_is_told_with_what_the_vendors_product_wants() {
    if plays_no_profiles() {
        return;
    }
    let profiles = Profile::all();
    assert_eq!(
        profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(),
        PROFILES.map(|(name, _)| name)
    );
    for (profile, (_, vendor)) in profiles.into_iter().zip(PROFILES) {
        let mut place = Place::of(&profile);
        if !profile.needs_no_login() {
            let (_, pin) = profile.login(&place.token);
            place.write_pin(&format!("{pin}x"));
            assert_hint(&check(&place, ""), "FAIL  login: with the PIN of --pin-file: wrong PIN", vendor);
        }
        place.name = None;
        let gone = check(&place, "[token]\naway = true\naway-shows = \"absent\"\n");
        assert_hint(&gone, "FAIL  token: there is no initialised token", vendor);
    }
}

#[test]
fn sessions_that_others_have_are_told_of_where_the_vendors_product_has_few() {
    if plays_no_profiles() {
        return;
    }
    for name in ["luna", "piv", "utimaco", "yubihsm2"] {
        let place = Place::of(&Profile::named(name));
        let said = check(&place, "[[fault]]\nfunctions = \"C_OpenSession\"\nrv = \"CKR_SESSION_COUNT\"\n");
        let (_, vendor) = PROFILES.iter().find(|(profile, _)| *profile == name).unwrap();
        assert_hint(&said, "FAIL  session: C_OpenSession: CKR_SESSION_COUNT", vendor);
    }
}

#[test]
fn a_yubihsm_that_stores_nothing_beside_a_key_is_told_with_what_then_fits() {
    if plays_no_profiles() {
        return;
    }
    let place = Place::of(&Profile::named("yubihsm2-plain"));
    // Without what its profile has there.
    place.configure(&place.module(), "max-sessions = 2", "");
    let said = Said::of(place.start_in(&["--sign"]).wait_with_output().unwrap());
    let line = said.line("FAIL  sign P-256: not made: C_GenerateKeyPair: CKR_FUNCTION_REJECTED");
    assert!(line.contains(" put-opaque or id-length = 2, label-max = 40"), "{line}");
    place.assert_empty();
}

#[test]
fn a_library_that_is_not_there_is_told_with_where_the_vendor_has_it() {
    let place = Place::new();
    for (library, vendor) in [
        ("libsofthsm2.so", "SoftHSM"),
        ("yubihsm_pkcs11.so", "YubiHSM 2"),
        ("libnethsm_pkcs11.so", "NetHSM"),
        ("libCryptoki2_64.so", "Luna"),
        ("libcloudhsm_pkcs11.so", "AWS CloudHSM"),
        ("libcknfast.so", "nShield"),
        ("libopencryptoki.so", "openCryptoki"),
        ("libtpm2_pkcs11.so.1", "tpm2-pkcs11"),
        ("libkryoptic_pkcs11.so", "Kryoptic"),
        ("libcs_pkcs11_R3.so", "Utimaco"),
        ("libprimusP11.so", "Securosys Primus"),
        ("fortanix_pkcs11.so", "Fortanix"),
        ("libkmsp11.so", "Google Cloud KMS"),
        ("libsoftokn3.so", "NSS"),
        ("opensc-pkcs11.so", "OpenSC"),
        ("p11-kit-client.so", "p11-kit"),
    ] {
        place.configure(&Path::new("/nonexistent").join(library), "", "");
        assert_hint(&place.check(&[]), "FAIL  module: ", vendor);
    }
}
