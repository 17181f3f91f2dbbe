//! README, SECURITY and CONTRIBUTING say what is there: the operations of the table that serves them, the targets of the Makefile, the tests.
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

#[test]
fn the_tests_that_security_names_are_there() {
    let rows = tested(include_str!("../SECURITY.md"), "| attack, fault or change |");
    assert!(rows.len() > 20, "{} rows", rows.len());
}

/// Seventeen points, each shown by tests of its own.
#[test]
fn the_tests_of_what_every_module_asks_for_are_there() {
    let rows = tested(include_str!("../CONTRIBUTING.md"), "| | what the bridge does |");
    assert_eq!(rows.len(), 17);
    for (number, row) in (1..).zip(rows) {
        assert!(row.starts_with(&format!("| {number} | ")), "{row}");
    }
}

/// The rows of the table that begins so. Each names its tests in the last column, as `file::test` or `directory::file::test` below
/// tests/, and they are there.
fn tested(text: &'static str, heading: &str) -> Vec<&'static str> {
    let rows = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    for row in &rows {
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
    rows
}
