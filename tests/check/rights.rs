//! What the user that the bridge becomes may not do. Only root can become another.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::place::{Place, Said};
use super::support::Token;
use super::support::hsm::skipped;

/// A user that has nothing.
const NOBODY: u32 = 65534;

/// A place that user may enter, with a token of its own; none for who cannot become that user, and where the module serves one user.
fn for_nobody() -> Option<Place> {
    if skipped(fs::metadata("/proc/self").unwrap().uid() != 0, "only root can become another user") {
        return None;
    }
    let place = Place::new();
    if skipped(place.token.is_for_one_user(), "the module serves one user") {
        return None;
    }
    give(place.token.directory());
    mode(place.directory.path(), 0o755);
    Some(place)
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether the command knows of a path that the module needs.
fn is_looked_at(place: &Place, path: &Path) -> bool {
    let said = place.check(&["--user", "65534", "--group", "65534"]);
    said.text.contains(&format!("ok    rights: {}\n", path.display()))
}

fn check(place: &Place) -> Said {
    place.check_in(&["--user", "65534", "--group", "65534", "--sign"])
}

#[test]
fn all_is_done_as_the_user_that_the_bridge_becomes() {
    let Some(place) = for_nobody() else { return };
    let said = check(&place);
    said.line("ok    user: ");
    said.line(&format!("ok    sign {}: ", place.quickest()));
    said.went_well();
    let said = place.check_in(&[]);
    assert!(said.line("warn  user: this is root").contains("hint: daemon.identity or --user"));
}

#[test]
fn names_the_directory_that_cannot_be_entered() {
    let Some(place) = for_nobody() else { return };
    let inner = place.path("closed");
    fs::create_dir_all(inner.join("lib")).unwrap();
    let module = inner.join("lib/libsofthsm2.so");
    fs::write(&module, "").unwrap();
    place.configure(&module, "", "");
    mode(&inner, 0o700);
    let said = check(&place);
    let line = said.line(&format!(
        "FAIL  rights: {}: {} cannot be entered (mode 0700, owner root",
        module.display(),
        inner.display()
    ));
    assert!(line.contains("\n      hint: SoftHSM: on Debian the group softhsm may"), "{line}");
    said.line("FAIL  module: cannot open PKCS#11 module ");
    assert_eq!(said.code, Some(1));
}

#[test]
fn advises_the_group_that_may() {
    let Some(place) = for_nobody() else { return };
    let conf = place.token.directory().join("conf");
    if skipped(!is_looked_at(&place, &conf), "no configuration of the module is known") {
        return;
    }
    chown(&conf, Some(0), Some(1)).unwrap();
    mode(&conf, 0o640);
    let said = check(&place);
    let line =
        said.line(&format!("FAIL  rights: {} cannot be read (mode 0640, owner root, group daemon)", conf.display()));
    assert!(line.contains("hint: the group daemon may: usermod -a -G daemon nobody"), "{line}");
    assert_eq!(said.code, Some(1));
}

#[test]
fn finds_a_token_that_root_has_made() {
    let Some(place) = for_nobody() else { return };
    if skipped(!is_looked_at(&place, &place.token.directory().join("tokens")), "no tokens of the module are known") {
        return;
    }
    place.token.add("of root", "1234-5678");
    let said = place.check(&["--user", "65534", "--group", "65534", "--token", "signer 5117"]);
    let line = said.line("FAIL  rights: ");
    assert!(line.contains(" is not for this user to make files in (mode 07") && line.contains("owner root"), "{line}");
    said.line("ok    token 'signer 5117': ");
    said.lacks("ok    token 'of root'");
    assert_eq!(said.code, Some(1));
}

#[test]
fn warns_of_what_a_hangup_could_not_read_again() {
    let Some(place) = for_nobody() else { return };
    let more = format!("[[token]]\nname = 'signer 5117'\npin-file = {:?}", place.path("pin"));
    place.configure(&Token::module(), "", &more);
    let said = place.check(&["--user", "65534", "--group", "65534"]);
    let line =
        said.line(&format!("warn  pin-file: {} cannot be read (mode 0600, owner root", place.path("pin").display()));
    assert!(line.contains("as HUP cannot read it"), "{line}");
    // Read as root, it serves.
    said.line("ok    login: done with the PIN of the configuration");
    said.went_well();
}

#[test]
fn who_cannot_become_the_user_is_told_so() {
    let place = Place::new();
    if skipped(fs::metadata("/proc/self").unwrap().uid() == 0, "root can become any user") {
        return;
    }
    // Neither is it this one.
    let said = place.check_in(&["--user", "1", "--group", "1"]);
    assert!(said.line("FAIL  user: cannot become user 1").contains("hint: start the bridge as root"));
    assert_eq!(said.code, Some(1));
}
