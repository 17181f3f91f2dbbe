//! The profiles: each can be played, and says what it plays.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use cryptoki::session::UserType;
use support::{PIN, Stage, generate, halves, initialize, pin, play, play_profile, rv};

fn profiles() -> Vec<PathBuf> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn every_profile_makes_sense_says_what_it_plays_and_is_listed() {
    play(|stage: &Stage| {
        let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        let module = stage.load();
        let profiles = profiles();
        assert!(profiles.len() > 20);
        for profile in profiles {
            let name = profile.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&profile).unwrap();
            assert!(text.starts_with("# ") && text.contains("\n# Configuration: "), "{name}");
            assert!(manual.contains(&format!("| `{name}` |")), "{name} is not in README.md");
            // One that makes no sense ends the process.
            stage.profile(&text.replace("like = \"", &format!("like = \"{}/", profile.parent().unwrap().display())));
            let _ = initialize(&module);
        }
    });
}

#[test]
fn a_profile_goes_by_its_name_and_lies_over_the_one_it_is_like() {
    play_profile("nethsm-1.7", |stage: &Stage| {
        let module = stage.module();
        let slot = module.get_slots_with_initialized_token().unwrap()[0];
        let (library, token) = (module.get_library_info().unwrap(), module.get_token_info(slot).unwrap());
        assert_eq!((library.library_version().minor(), library.cryptoki_version().minor()), (7, 40));
        assert_eq!((library.manufacturer_id(), token.label()), ("Nitrokey", "LocalHSM"));
        let session = module.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        assert_eq!(rv(generate(&session, &[1; 33])), RvError::FunctionFailed);
        let (public, _) = generate(&session, &[1; 32]).unwrap();
        let label = session.get_attributes(public, &[AttributeType::Label]).unwrap();
        assert_eq!(label, [Attribute::Label(vec![1; 32])]);
        assert_eq!(rv(session.update_attributes(public, &[Attribute::Label(vec![2])])), RvError::AttributeReadOnly);
    });
}

#[test]
fn a_module_of_3_gives_the_longer_list() {
    play_profile("kryoptic", |stage: &Stage| {
        let (module, _, session) = stage.session();
        assert_eq!(module.get_library_info().unwrap().cryptoki_version().to_string(), "3.2");
        let (public, private) = halves(b"1", "key");
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
        assert_eq!(session.find_objects(&[]).unwrap().len(), 168);
    });
}
