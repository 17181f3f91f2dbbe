//! The README says what is there: the operations of the table that serves them, the targets of the Makefile.
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
