//! What it prints for each module at hand, held against what is kept.

use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, thread};

use super::place::{Place, Said, plays_no_profiles};
use super::support::profile::Profile;

#[test]
fn prints_for_this_module_what_is_kept() {
    let place = Place::new();
    // Modules have their own ways with standard error.
    let said = Said::of(place.start_in(&["--sign", "--data-objects"]).wait_with_output().unwrap());
    let found = plain(&said.text, &place);
    compare(&place.token.hsm().to_string(), &found);
}

/// The modules that are not at hand, as the faulty module plays them.
#[test]
fn prints_for_each_profile_what_is_kept() {
    /// Runs at one time.
    const WORKERS: usize = 3;
    if plays_no_profiles() {
        return;
    }
    let profiles = Mutex::new(Profile::all());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(profile) = { profiles.lock().unwrap().pop() } {
                    let place = Place::of(&profile);
                    let token = place.name.as_deref().map(|name| vec!["--token", name]).unwrap_or_default();
                    let said =
                        Said::of(place.start_in(&[&["--sign"], &token[..]].concat()).wait_with_output().unwrap());
                    compare(&format!("profiles/{}", profile.name), &plain(&said.text, &place));
                }
            });
        }
    });
}

#[track_caller]
fn compare(name: &str, found: &str) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/check/{name}.txt"));
    if env::var_os("CHECK_OUTPUT").is_some_and(|what| what == "keep") {
        fs::write(&kept, found).unwrap();
    }
    let kept = fs::read_to_string(&kept).unwrap_or_default();
    assert_eq!(found, kept, "{name}: meant to be so? see the head of tests/check/main.rs");
}

/// Without what differs from run to run and from machine to machine: places, users, numbers of slots, serials, versions, times and rates.
fn plain(text: &str, place: &Place) -> String {
    let text = text.replace(place.token.directory().to_str().unwrap(), "TOKENS");
    let text = text.replace(place.directory.path().to_str().unwrap(), "HERE");
    let text = text.replace(place.module().to_str().unwrap(), "MODULE");
    let mut lines: Vec<String> = Vec::new();
    let mut after_user = false;
    for line in text.lines() {
        let is_user = line.contains("  user: ");
        let is_its_hint = after_user && line.starts_with("      hint: ");
        after_user = is_user;
        if !is_user && !is_its_hint {
            lines.push(words(line));
        }
    }
    // A module may list its tokens in any order.
    if let Some(first) = lines.iter().position(|line| line.starts_with("ok    token ")) {
        let tokens = lines[first..].iter().take_while(|line| line.starts_with("ok    token ")).count();
        lines[first..first + tokens].sort();
    }
    lines.join("\n") + "\n"
}

fn words(line: &str) -> String {
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        let (before, rest) = words.split_at_mut(index);
        let (last, word) = (before[index - 1].as_str(), &mut rest[0]);
        let end = if word.ends_with([',', ';', ':']) { &word[word.len() - 1..] } else { "" }.to_owned();
        match last {
            "serial" if !word.starts_with("number") && word != "=" => *word = format!("N{end}"),
            "=" if index > 1 && before[index - 2] == "serial" => *word = "\"N\"".to_owned(),
            "slot" | "Slot" | "version" | "firmware" if is_number(word) => *word = format!("N{end}"),
            "ID" | "only:" if is_number(word) => *word = format!("N{end}"),
            "labelled" => *word = "L".to_owned(),
            _ => {}
        }
        if matches!(word.trim_end_matches([',', ';']), "ms" | "with" | "listed" | "there") && is_number(last) {
            before[index - 1] = "N".to_owned();
        }
    }
    words.join(" ")
}
