//! Loading a module, and every way in which that fails.

use std::fs;
use std::path::Path;

use cascade_hsm_bridge::pkcs11::{LoadError, Module};

use crate::bench::{PIN, admit, on_spy, on_token};
use crate::support::Hsm;
use crate::support::hsm::skipped;
use crate::support::scratch::Scratch;

#[test]
fn says_why_a_module_cannot_be_loaded() {
    let scratch = Scratch::new("load");
    let file = |name: &str, content: &[u8]| scratch.file(name, content);
    let load = |path: &Path| Module::load(path).err().unwrap();
    assert!(matches!(load(&scratch.path().join("none.so")), LoadError::Missing { .. }));
    assert!(matches!(load(scratch.path()), LoadError::NotAFile { .. }));
    assert!(matches!(load(&file("text.so", b"not a library\n")), LoadError::NotALibrary { .. }));
    assert!(matches!(load(&file("empty.so", b"")), LoadError::NotALibrary { .. }));
    let whole = fs::read(Hsm::chosen().library()).unwrap();
    assert!(matches!(load(&file("cut.so", &whole[..64])), LoadError::CannotLoad { .. }));
    // No module, but a library every program has.
    let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/usr/lib64/libm.so.6"];
    assert!(matches!(
        load(other.map(Path::new).into_iter().find(|path| path.exists()).unwrap()),
        LoadError::NotAModule { .. }
    ));
    assert!(matches!(load(Path::new("libno-such-module.so")), LoadError::CannotLoad { .. }));
    // Permissions do not bind root.
    let secret = file("secret.so", &whole);
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if fs::File::open(&secret).is_err() {
        assert!(matches!(load(&secret), LoadError::NotReadable { .. }));
    }
}

#[test]
fn says_what_c_initialize_returned_and_where_to_look() {
    on_token("load::says_what_c_initialize_returned_and_where_to_look", |bench| {
        let _ = fs::remove_file(bench.file("conf"));
        let fails = bench.store().module_info().is_err_and(|why| why.contains("C_Initialize"));
        if skipped(!fails, "the module does not fail at C_Initialize for want of its configuration") {
            return;
        }
        let error = Module::load(&bench.module).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("C_Initialize: CKR_") && text.contains("SOFTHSM2_CONF"), "{text}");
    });
}

#[test]
fn a_module_that_nobody_uses_any_more_is_finalized() {
    on_spy("load::a_module_that_nobody_uses_any_more_is_finalized", |bench| {
        drop(bench.tokens());
        // When it is finalized again, openCryptoki 3.8 closes the numbers that its descriptors had before: they are not to be the record's.
        (0..16).for_each(|_| std::mem::forget(fs::File::open("/dev/null").unwrap()));
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        // A token in use keeps the module.
        drop(tokens);
        assert!(token.random(8).is_ok());
        assert_eq!(bench.calls().iter().filter(|name| *name == "C_Finalize").count(), 1);
        drop(token);
        let calls = bench.calls();
        assert_eq!(calls.last().map(String::as_str), Some("C_Finalize"), "{calls:?}");
        assert_eq!(calls.iter().filter(|name| *name == "C_CloseSession").count(), 2);
    });
}
