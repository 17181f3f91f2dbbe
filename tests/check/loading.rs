//! Modules that do not load, and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::Place;

fn compile(args: &[&str], output: &Path) {
    let source = output.with_extension("c");
    fs::write(&source, "int C_GetFunctionList(void *list) { return 5; }\n").unwrap();
    let made = Command::new("cc").arg("-shared").arg("-o").arg(output).arg(&source).args(args).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A library that needs one called `needed`, which is not there any more.
fn needing(place: &Place, needed: &str) -> PathBuf {
    let (gone, module) = (place.path(needed), place.path("m.so"));
    compile(&["-nostdlib", &format!("-Wl,-soname,{needed}")], &gone);
    compile(&["-nostdlib", "-Wl,--no-as-needed", gone.to_str().unwrap()], &module);
    fs::remove_file(gone).unwrap();
    module
}

#[test]
fn there_is_none() {
    let place = Place::new();
    place.configure(Path::new("/nonexistent/m.so"), "", "");
    let said = place.check(&[]);
    assert!(
        said.line("FAIL  module: cannot open PKCS#11 module /nonexistent/m.so: no such file")
            .contains("hint: lib-path")
    );
    assert_eq!(said.code, Some(1));
    place.configure(Path::new("/nonexistent/libsofthsm2.so"), "", "");
    let said = place.check(&[]);
    assert!(said.line("FAIL  module: ").contains("hint: SoftHSM: Debian has it in the package softhsm2"));
}

#[test]
fn it_needs_a_library_that_is_not_there() {
    let place = Place::new();
    place.configure(&needing(&place, "libvendor.so.3"), "", "");
    let said = place.check(&[]);
    let line = said.line("FAIL  module: cannot load PKCS#11 module ");
    assert!(line.contains(": libvendor.so.3: cannot open shared object file"), "{line}");
    assert!(line.contains("hint: the module needs libvendor.so.3: install what brings it"), "{line}");
    assert_eq!(said.code, Some(1));
}

#[test]
fn it_is_for_another_c_library() {
    let place = Place::new();
    place.configure(&needing(&place, "libc.musl-x86_64.so.1"), "", "");
    let line = place.check(&[]).line("FAIL  module: cannot load PKCS#11 module ");
    assert!(line.contains("hint: the module is built for musl"), "{line}");
}

#[test]
fn it_is_for_another_kind_of_processor_or_no_library_at_all() {
    let place = Place::new();
    let module = place.path("m.so");
    compile(&["-nostdlib"], &module);
    let mut bytes = fs::read(&module).unwrap();
    // e_machine of the ELF header: a processor that nobody has.
    bytes[18] ^= 0x55;
    fs::write(&module, &bytes).unwrap();
    place.configure(&module, "", "");
    let said = place.check(&[]);
    assert!(said.line("FAIL  module: ").contains("a library for another kind of processor"), "{}", said.text);
    fs::write(&module, "#!/bin/sh\n").unwrap();
    assert!(place.check(&[]).line("FAIL  module: ").contains("not a shared library"));
}

#[test]
fn it_is_no_module_or_one_that_refuses() {
    let place = Place::new();
    let module = place.path("m.so");
    compile(&["-nostdlib"], &module);
    place.configure(&module, "", "");
    let said = place.check(&[]);
    assert!(said.line("FAIL  module: ").contains("C_GetFunctionList: CKR_GENERAL_ERROR (0x5)"), "{}", said.text);
    compile(&["-nostdlib", "-DC_GetFunctionList=other"], &module);
    let said = place.check(&[]);
    assert!(said.line("FAIL  module: ").contains("is not a PKCS#11 module"), "{}", said.text);
}
