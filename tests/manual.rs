//! The manual, the configuration template and the service units say what is there: options, keys, defaults and ranges.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use cascade_hsm_bridge::cli::{Command as Word, OPTIONS};
use cascade_hsm_bridge::config::keys::{self, Key};
use cascade_hsm_bridge::config::{self, Judged, Overrides};

const MAN_1: &str = include_str!("../man/cascade-hsm-bridge.1");
const MAN_5: &str = include_str!("../man/cascade-hsm-bridge-config.toml.5");
const GUIDES: [(&str, &str); 2] = [
    ("cascade-hsm-bridge-hsms", include_str!("../man/cascade-hsm-bridge-hsms.7")),
    ("cascade-hsm-bridge-migration", include_str!("../man/cascade-hsm-bridge-migration.7")),
];
/// What `check` knows of vendors' modules.
const VENDORS: &str = include_str!("../src/check/vendors.rs");
const NAME: &str = env!("CARGO_PKG_NAME");
const TEMPLATE: &str = include_str!("../conf/config.toml");
const SERVICE: &str = include_str!("../conf/cascade-hsm-bridge.service");
const SOCKET: &str = include_str!("../conf/cascade-hsm-bridge.socket");

fn judge(text: &str) -> Judged {
    config::judge(Path::new("config.toml"), text, &Overrides::default(), None)
}

/// The template with its defaults, which are commented out as "#key", in force.
fn with_defaults() -> String {
    let is_key =
        |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    TEMPLATE.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

/// What stands in `table` for `path`, as `table.key`.
fn look_up<'t>(table: &'t toml::Table, path: &str) -> Option<&'t toml::Value> {
    let (table, name) = match path.rsplit_once('.') {
        Some((tables, name)) => (tables.split('.').try_fold(table, |table, name| table.get(name)?.as_table())?, name),
        None => (table, path),
    };
    table.get(name)
}

#[test]
fn the_template_means_the_defaults() {
    let least = "version = \"v1\"\n[pkcs11]\nlib-path = \"/usr/lib/softhsm/libsofthsm2.so\"\n";
    let least = format!("{:?}", judge(least).sound().unwrap());
    for text in [TEMPLATE, &with_defaults()] {
        let judged = judge(text);
        assert!(judged.warnings.is_empty(), "{:?}", judged.warnings);
        assert_eq!(format!("{:?}", judged.sound().unwrap()), least);
    }
}

#[test]
fn the_template_shows_every_key_with_its_default_or_an_example() {
    let shown: toml::Table = with_defaults().parse().unwrap();
    for Key { path, default, .. } in keys::all() {
        let name = path.rsplit('.').next().unwrap();
        match default {
            Some(default) => {
                let value: toml::Table = format!("value = {default}").parse().unwrap();
                assert_eq!(look_up(&shown, path), value.get("value"), "{path}");
            }
            None => {
                let example = TEMPLATE.contains(&format!("\n#   {name} = ")) || look_up(&shown, path).is_some();
                assert!(example || TEMPLATE.contains(&format!(", {name} = ")), "{path}");
            }
        }
    }
}

#[test]
fn the_template_says_what_each_number_and_word_may_be() {
    for Key { path, range, words, default } in keys::all() {
        let name = path.rsplit('.').next().unwrap();
        let Some(line) = default.and_then(|default| TEMPLATE.find(&format!("\n#{name} = {default}\n"))) else {
            continue;
        };
        let comment = TEMPLATE[..line].rsplit("\n\n").next().unwrap();
        if let Some((least, most)) = range {
            assert!(comment.contains(&format!("{least} to {most}")), "{path}: {least} to {most}");
        }
        for word in words {
            assert!(comment.contains(&format!("\"{word}\"")), "{path}: {word}");
        }
    }
}

#[test]
fn the_examples_of_the_template_are_sound() {
    let mut table = "";
    for line in TEMPLATE.lines() {
        if line.starts_with('[') {
            table = line;
        }
        let Some(example) = line.strip_prefix("#   ") else { continue };
        // A pair of keys is sound only as a pair, and an identity only where there is that user.
        // The table that has to be there anyway cannot be there twice.
        let begins = if table == "[pkcs11]" { "" } else { table };
        let text = format!("version = \"v1\"\n[pkcs11]\nlib-path = \"/m.so\"\n{begins}\n{example}\n");
        let judged = judge(&text);
        let problems: Vec<_> = judged.problems.iter().map(|problem| problem.what.as_str()).collect();
        // What an example needs beside it, on the same line or on the machine.
        let absent = ["but server.identity", "but server.tls.client-auth", "there is no user", "there is no group"];
        assert!(problems.iter().all(|what| absent.iter().any(|part| what.contains(part))), "{problems:?}");
    }
}

#[test]
fn the_lists_of_the_template_are_sound() {
    let lists = TEMPLATE.split_once("\n# [[token]]").unwrap().1;
    let is_written = |line: &&str| line.starts_with("# [[") || line.contains(" = ");
    let lists: Vec<_> = lists.lines().filter(is_written).filter_map(|line| line.strip_prefix("# ")).collect();
    let text = TEMPLATE.replace("#client-auth = \"off\"", "client-auth = \"optional\"\nclient-ca = \"/ca\"");
    let lists: Vec<_> = lists.into_iter().filter(|line| !line.starts_with(|c: char| c.is_uppercase())).collect();
    let judged = judge(&format!("{text}\n[[token]]\n{}", lists.join("\n"))).sound().unwrap();
    let access = &judged.access;
    assert_eq!((access.tokens.len(), access.clients.len()), (1, 1));
    let (_, policy) = &judged.pkcs11.policies[1];
    assert_eq!((judged.pkcs11.policies.len(), policy.label_max), (2, Some(40)));
}

/// The items of the manual of the configuration by key, each as its lines of text.
fn items() -> BTreeMap<String, String> {
    let mut items: BTreeMap<String, String> = BTreeMap::new();
    let (mut table, mut key) = (String::new(), None);
    for line in MAN_5.lines().skip_while(|line| !line.starts_with(".Ss ")).take_while(|line| !line.starts_with(".Sh "))
    {
        if let Some(title) = line.strip_prefix(".Ss ") {
            table = title.trim_matches(['[', ']']).to_owned();
            key = None;
        } else if let Some(name) = line.strip_prefix(".It Ic ") {
            key = Some(if table == "Top" { name.to_owned() } else { format!("{table}.{name}") });
        } else if let Some(key) = &key {
            let text = items.entry(key.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    items
}

#[test]
fn the_manual_describes_the_keys_that_are_there() {
    let described: BTreeSet<String> = items().into_keys().collect();
    let mut there: BTreeSet<String> = keys::all().iter().map(|key| key.path.to_owned()).collect();
    // The table around two of them has a paragraph of its own.
    there.insert("daemon.log-target".to_owned());
    there.extend(keys::LISTED.iter().map(|path| (*path).to_owned()));
    assert_eq!(described, there);
}

#[test]
fn the_manual_tells_defaults_ranges_and_words() {
    let items = items();
    for Key { path, default, range, words } in keys::all() {
        let text = &items[path];
        if let Some(default) = default {
            let told = format!("default {}.", default.to_lowercase());
            assert!(text.to_lowercase().contains(&told), "{path}: {told}");
        }
        if let Some((least, most)) = range {
            assert!(text.contains(&format!("From {least} to {most}, ")), "{path}: from {least} to {most}");
        }
        for word in words {
            assert!(text.contains(&format!("Ql {word}")), "{path}: {word}");
        }
    }
}

#[test]
fn the_manual_describes_the_options_that_are_there() {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let named: BTreeSet<&str> =
        MAN_1.split("Fl ").skip(1).map(|rest| rest.split(|c| !is_part(c)).next().unwrap()).collect();
    let mut there = BTreeSet::new();
    for opt in OPTIONS {
        let value = opt.value.map(|value| format!(" Ar {}", value.to_lowercase())).unwrap_or_default();
        let long = format!("Fl -{}{value}", opt.long);
        let (item, synopsis) = match opt.short {
            Some(short) => (format!("\n.It Fl {short}{value} , {long}\n"), format!("Fl {short}{value} | {long}")),
            None => (format!("\n.It {long}\n"), long),
        };
        assert!(MAN_1.contains(&item), "{item}");
        let part = MAN_1.split(".Sh DESCRIPTION").next().unwrap();
        assert!(part.contains(&synopsis), "{synopsis}");
        there.insert(format!("-{}", opt.long));
        there.extend(opt.short.map(String::from));
    }
    assert_eq!(named, there.iter().map(String::as_str).collect());
    assert!(MAN_1.contains(config::DEFAULT_PATH) && MAN_5.contains(config::DEFAULT_PATH));
}

/// The text of every file below `directory`.
fn texts(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { texts(&path) } else { std::fs::read_to_string(path).unwrap() }).collect()
}

#[test]
fn the_manual_describes_the_variables_that_are_read() {
    let source = texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let is_name =
        |text: &&str| text.len() > 1 && text.contains('_') && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    // Not variables of the compiler or of the loader, nor names of PKCS#11. The last one is only kept from the module.
    let others = ["CARGO_", "CKA_", "CKM_", "CKR_", "C_", "GLIBC_", "LD_", "LISTEN_FDNAMES"];
    // Those of modules are told in `check` and in the guide to HSMs.
    let is_ours =
        |name: &&str| !others.iter().any(|other| name.starts_with(other)) && !VENDORS.contains(&format!("\"{name}\""));
    let read: BTreeSet<&str> = source.split('"').filter(is_name).filter(is_ours).collect();
    assert!(read.contains("NOTIFY_SOCKET"), "{read:?}");
    let described = MAN_1.lines().filter_map(|line| line.strip_prefix(".It Ev "));
    let described: BTreeSet<&str> = described.flat_map(|names| names.split(" , ")).collect();
    assert_eq!(described, read);
}

#[test]
fn the_manual_has_a_synopsis_of_each_command() {
    let synopsis = MAN_1.split(".Sh DESCRIPTION").next().unwrap();
    for command in Word::ALL {
        let word = command.word();
        let (_, lines) = synopsis.split_once(&format!("\n.Nm\n.Cm {word}\n")).unwrap_or_else(|| panic!("{word}"));
        let lines = lines.split("\n.Nm").next().unwrap();
        for opt in OPTIONS {
            let said = lines.split_whitespace().any(|part| part.strip_prefix('-') == Some(opt.long));
            let alone = matches!(opt.long, "help" | "version");
            assert_eq!(said, !alone && opt.commands.contains(&Some(command)), "{word} --{}", opt.long);
        }
    }
}

/// Every page of the manual.
fn pages() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages: Vec<_> = fs::read_dir(directory).unwrap().map(|page| page.unwrap().path()).collect();
    assert!(pages.len() > 2);
    pages
}

#[test]
fn the_manual_shows_commands_that_are_understood() {
    let mut shown = 0;
    for page in pages() {
        for line in fs::read_to_string(&page).unwrap().lines() {
            let command = ["$", "#"].into_iter().find_map(|prompt| line.strip_prefix(&format!(".Dl {prompt} {NAME} ")));
            let Some(command) = command else { continue };
            let args = command.split(' ').take_while(|word| !["&&", "|", ">"].contains(word));
            let action = cascade_hsm_bridge::cli::parse(args.map(Into::into));
            assert!(action.is_ok(), "{}: {line}: {}", page.display(), action.unwrap_err());
            shown += 1;
        }
    }
    assert!(shown > 10, "{shown}");
}

#[test]
fn the_guides_name_keys_and_pages_that_are_there() {
    let is_there = |name: &str| {
        let name = name.trim_end_matches([' ', ',', '.', ':']);
        let paths = keys::all().into_iter().map(|key| key.path).chain(keys::LISTED.iter().copied());
        let table = format!("{}.", name.trim_matches(['[', ']']));
        paths.chain(["module.env."]).any(|path| {
            path == name || path.ends_with(&format!(".{name}")) || name.starts_with('[') && path.starts_with(&table)
        })
    };
    for (guide, text) in GUIDES {
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(".Ic ")).collect();
        assert!(names.len() > 5);
        for name in names {
            assert!(is_there(name), "{guide}: {name}");
        }
        for (page, other) in [("cascade-hsm-bridge 1", MAN_1), ("cascade-hsm-bridge-config.toml 5", MAN_5)] {
            assert!(text.contains(&format!(".Xr {page}")));
            assert!(other.split_once(".Sh SEE ALSO").unwrap().1.contains(&format!(".Xr {guide} 7")), "{page}: {guide}");
        }
    }
}

#[test]
fn the_guide_to_hsms_names_the_variables_that_check_looks_at() {
    // Of modules before another one, which `check` knows by the other.
    const OTHERS: [&str; 3] = ["CKNFAST_*", "PKCS11SPY", "PKCS11SPY_OUTPUT"];
    let (_, guide) = GUIDES[0];
    let named: BTreeSet<&str> = guide.lines().filter_map(|line| line.strip_prefix(".Ev ")).map(first_word).collect();
    let known: BTreeSet<&str> = VENDORS.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for name in &named {
        assert!(known.contains(name) || OTHERS.contains(name), "{name} is not known to `check`");
    }
    for opening in ["file(\"", "variable: \""] {
        for variable in told_of_vendors(opening, |c| c == '"') {
            assert!(named.contains(variable), "the guide does not name {variable}");
        }
    }
}

/// What stands between each `opening` in the table of vendors and the next `closing`.
fn told_of_vendors(opening: &str, closing: fn(char) -> bool) -> Vec<&'static str> {
    let told = VENDORS.split(opening).skip(1).filter_map(|rest| rest.split(closing).next());
    told.filter(|text| !text.is_empty()).collect()
}

#[test]
fn the_guide_to_hsms_has_a_section_for_each_vendor_that_check_knows() {
    let (_, guide) = GUIDES[0];
    let sections: Vec<_> = guide.split("\n.Ss ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let names = told_of_vendors("        name: \"", |c| c == '"');
    assert!(names.len() > 10, "{names:?}");
    // What has a profile, but no name of its own in `check`.
    for name in names.into_iter().chain(["DPoD", "PIV"]) {
        let mut of_vendor = sections.iter().filter(|(title, _)| title.contains(name)).peekable();
        assert!(of_vendor.peek().is_some(), "no section is about {name}");
        for (title, text) in of_vendor {
            for item in ["Install", "Configure", "Expect"] {
                assert!(text.contains(&format!("\n.It {item}\n")), "{title} has no {item}");
            }
        }
    }
    let is_part = |c: char| !c.is_ascii_alphanumeric();
    let groups: BTreeSet<_> = told_of_vendors("the group ", is_part).into_iter().collect();
    assert!(groups.contains("hsmusers") && groups.len() > 4, "{groups:?}");
    for group in groups {
        assert!(guide.contains(&format!("\n.Ql {group}")), "the guide does not name the group {group}");
    }
}

#[test]
fn the_guide_to_hsms_shows_tables_that_are_sound() {
    let (_, guide) = GUIDES[0];
    let tables: Vec<_> =
        guide.split("\n.Bd -literal\n").skip(1).filter_map(|rest| rest.split("\n.Ed").next()).collect();
    assert!(!tables.is_empty());
    for table in tables {
        let judged = judge(&format!("version = \"v1\"\n[pkcs11]\nlib-path = \"/m.so\"\n{table}\n"));
        assert!(judged.problems.is_empty() && judged.warnings.is_empty(), "{:?}{:?}", judged.problems, judged.warnings);
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap()
}

#[test]
fn the_manual_has_no_faults_of_form() {
    for path in pages() {
        match Command::new("mandoc").args(["-Tlint", "-W", "warning"]).arg(path).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(why) if why.kind() == ErrorKind::NotFound => println!("skipped: there is no mandoc on this machine"),
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn the_units_start_the_program_that_is_there() {
    let command = SERVICE.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some(env!("CARGO_PKG_NAME")));
    let args = words.map(Into::into);
    let action = cascade_hsm_bridge::cli::parse(args).unwrap();
    assert!(
        matches!(action, cascade_hsm_bridge::cli::Action::Run(options) if options.config == Path::new(config::DEFAULT_PATH))
    );
    for line in [
        "Type=notify",
        "ExecReload=kill -HUP $MAINPID",
        "StateDirectory=cascade-hsm-bridge",
        "LimitCORE=0",
        "UMask=0077",
        "NoNewPrivileges=yes",
    ] {
        assert!(SERVICE.lines().any(|there| there == line), "{line}");
    }
    let address = keys::ADDR.default.unwrap();
    assert!(SOCKET.contains(&format!("\nListenStream={address}\n")));
}
