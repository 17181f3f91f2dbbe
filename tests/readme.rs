//! README and SECURITY say what is there: the operations of the table that serves them, the targets of the Makefile, the tests.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use cascade_hsm_bridge::bridge::OPERATIONS;

const README: &str = include_str!("../README.md");
const MAKEFILE: &str = include_str!("../Makefile");

#[test]
fn the_table_of_operations_is_the_one_that_is_served() {
    let rows = README.lines().skip_while(|line| !line.starts_with("| operation |")).skip(2);
    let mut told: Vec<&str> = rows.map_while(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    let mut served: Vec<String> = OPERATIONS.iter().map(|offered| offered.operation.to_string()).collect();
    told.sort_unstable();
    served.sort_unstable();
    assert_eq!(told, served);
}

#[test]
fn the_targets_it_names_are_there() {
    let commands = README.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = commands.map(|line| line.trim_start_matches("sudo ")).filter_map(|line| line.strip_prefix("make "));
    let named: Vec<&str> = commands
        .chain(README.split("`make ").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default())
        .collect();
    assert!(named.contains(&"run") && named.contains(&"check"), "{named:?}");
    for target in named {
        let rule = format!("\n{target}:");
        assert!(MAKEFILE.contains(&rule), "make {target}");
    }
}

/// A row of the table in SECURITY.md names its tests as `file::test` or `directory::file::test`, below tests/.
#[test]
fn the_tests_that_security_names_are_there() {
    let security = include_str!("../SECURITY.md");
    let rows = security.lines().skip_while(|line| !line.starts_with("| attack, fault or change |")).skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().expect("a last cell");
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows: {row}");
        for name in names {
            let (file, test) = name.rsplit_once("::").expect("file::test");
            let path = format!("{}/tests/{}.rs", env!("CARGO_MANIFEST_DIR"), file.replace("::", "/"));
            let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(source.contains(&format!("fn {test}()")), "{name}");
        }
    }
}
