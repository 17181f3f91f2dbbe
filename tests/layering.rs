//! The rules of the house that a compiler does not hold: layers, the fence around unsafe code, files, dependencies.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each layer with those that it may use, from the top. The library's root, which starts all, may use any.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &[]),
    (
        "lib",
        &[
            "bridge", "check", "cli", "config", "console", "daemon", "json", "keys", "kmip", "logging", "notify",
            "pkcs11", "server", "sys", "ttlv",
        ],
    ),
    ("cli", &["bridge", "check", "config", "console", "keys", "logging"]),
    ("daemon", &["bridge", "check", "config", "logging", "notify", "pkcs11", "server", "sys"]),
    ("check", &["bridge", "config", "console", "json", "logging", "pkcs11", "server", "sys"]),
    ("keys", &["bridge", "config", "console", "json", "logging", "pkcs11", "sys"]),
    ("console", &["bridge", "config", "pkcs11", "sys"]),
    ("config", &["bridge", "logging", "pkcs11", "server", "sys"]),
    ("server", &["bridge", "logging", "notify", "sys", "ttlv"]),
    ("bridge", &["der", "kmip", "logging", "pkcs11", "sys", "ttlv"]),
    ("kmip", &["ttlv"]),
    ("ttlv", &[]),
    ("pkcs11", &["der", "logging", "sys"]),
    ("logging", &[]),
    ("notify", &[]),
    ("json", &[]),
    ("der", &[]),
    ("sys", &[]),
];

/// The files that may hold unsafe code.
const UNSAFE: [&str; 9] = [
    "sys.rs",
    "sys/accounts.rs",
    "sys/caught.rs",
    "sys/fenced.rs",
    "sys/functions.rs",
    "sys/memory.rs",
    "sys/sockets.rs",
    "sys/supervised.rs",
    "sys/terminal.rs",
];

/// The most lines of a file. A longer one has two subjects.
const MOST_LINES: usize = 450;

/// Every crate that the product may be built of: the direct dependencies of Cargo.toml and what they bring.
const CRATES: &[&str] = &[
    "base64",
    "bitflags",
    "cfg-if",
    "cryptoki",
    "cryptoki-sys",
    "deranged",
    "env_filter",
    "env_logger",
    "getrandom",
    "lexopt",
    "libc",
    "libloading",
    "log",
    "num-conv",
    "once_cell",
    "pem",
    "powerfmt",
    "proc-macro2",
    "quote",
    "rcgen",
    "ring",
    "rustls",
    "rustls-pki-types",
    "rustls-webpki",
    "secrecy",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_spanned",
    "subtle",
    "syn",
    "time",
    "time-core",
    "toml",
    "toml_datetime",
    "toml_parser",
    "unicode-ident",
    "untrusted",
    "winnow",
    "yasna",
    "zeroize",
];

/// The files of `src`, each with its path from there.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 20);
    files
}

/// The layer that a file belongs to: its directory, or its own name.
fn layer(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The layers that `text` names, as `crate::layer` or in `crate::{layer, ...}`.
fn used(text: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(name(rest));
            continue;
        };
        let mut depth = 1_u32;
        let mut at_start = true;
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => at_start = true,
                c if c.is_alphanumeric() && at_start => {
                    used.insert(name(&list[index..]));
                    at_start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    used
}

#[test]
fn reads_imports_of_every_form() {
    let text =
        "use crate::sys;\nuse crate::{bridge::{self, Peer}, kmip, server::tls::{A, B}};\ncrate::ttlv::x(pub(crate) y)";
    let expected = ["bridge", "kmip", "server", "sys", "ttlv"].map(str::to_owned);
    assert_eq!(used(text), BTreeSet::from(expected));
}

#[test]
fn modules_import_only_from_below() {
    for (path, text) in sources() {
        let layer = layer(&path);
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == layer)
            .unwrap_or_else(|| panic!("{}: {layer} is no layer", path.display()));
        for used in used(&text) {
            let is_within = used == layer || allowed.contains(&used.as_str());
            assert!(is_within, "{} must not use crate::{used}", path.display());
        }
    }
}

#[test]
fn layers_use_only_layers_below_themselves() {
    for (index, (layer, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let below = MAY_USE.iter().position(|(name, _)| name == used).unwrap();
            assert!(below > index, "{layer} above {used}");
        }
    }
}

#[test]
fn unsafe_code_is_among_the_system_calls() {
    for (path, text) in sources() {
        let forbids = text.contains("\n#![forbid(unsafe_code)]\n");
        match path.to_str().unwrap() {
            path if UNSAFE.contains(&path) => assert!(text.contains("\n#![allow(unsafe_code)]\n"), "{path}"),
            // A root that forbids it would forbid it to those too; Cargo.toml denies it here.
            "lib.rs" => assert!(!text.contains("unsafe {")),
            path => assert!(forbids, "{path} does not forbid unsafe code"),
        }
    }
    let manifest = include_str!("../Cargo.toml");
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"));
}

#[test]
fn files_say_what_they_are_for_and_keep_to_it() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_product_is_built_of_no_crate_but_those_allowed() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let allowed: BTreeSet<&str> = CRATES.iter().copied().chain([env!("CARGO_PKG_NAME")]).collect();
    let more: Vec<_> = built.difference(&allowed).collect();
    assert!(more.is_empty(), "not allowed: {more:?}");
}

#[test]
fn nothing_comes_from_outside_the_registry() {
    let lock = include_str!("../Cargo.lock");
    for source in lock.lines().filter_map(|line| line.strip_prefix("source = ")) {
        assert!(source.starts_with("\"registry+"), "{source} is not from a registry");
    }
}
