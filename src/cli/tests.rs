//! What the command line means.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStringExt;

use log::LevelFilter;

use super::*;

fn parsed(line: &str) -> Result<Action, String> {
    parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
}

fn run(line: &str) -> Options {
    match parsed(line) {
        Ok(Action::Run(options)) => options,
        other => panic!("{other:?}"),
    }
}

fn refused(line: &str) -> String {
    parsed(line).unwrap_err().lines().next().unwrap().to_owned()
}

#[test]
fn runs_with_the_default_file_when_nothing_is_said() {
    let options = run("");
    assert_eq!(options.config, Path::new("/etc/cascade-hsm-bridge/config.toml"));
    assert_eq!(options.overrides, Overrides::default());
}

#[test]
fn takes_every_option_of_the_incumbent() {
    let options = run("-c x.toml --log-level debug -l syslog -d --user u --group g");
    assert_eq!(options.config, Path::new("x.toml"));
    let expected = Overrides {
        daemonize: true,
        group: Some("g".to_owned()),
        log_level: Some(LevelFilter::Debug),
        log_target: Some(logging::Target::Syslog),
        state_dir: None,
        user: Some("u".to_owned()),
    };
    assert_eq!(options.overrides, expected);
    let long = run("--config=x.toml --log-level=debug --log=syslog --daemonize --user=u --group=g");
    assert_eq!(long, options);
    assert!(
        matches!(parsed("--check-config -c x"), Ok(Action::CheckConfig(options)) if options.config == Path::new("x"))
    );
}

#[test]
fn takes_a_command_before_or_after_options() {
    let asked = Questions { json: true, token: Some("t".to_owned()), ..Questions::default() };
    let wanted = Trials { sign: true, ..Trials::default() };
    for line in ["check -c x --json --sign --token t", "-c x --token=t check --sign --json"] {
        match parsed(line) {
            Ok(Action::Check(options, questions, trials)) => {
                assert_eq!((options.config.as_path(), &questions, &trials), (Path::new("x"), &asked, &wanted));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn takes_what_keys_are_meant_and_what_to_do_with_them() {
    let wanted = Wishes {
        cascade: None,
        destroy: true,
        named: ["0a0b", "0A0C_pub", "0A0D_priv"].iter().filter_map(|text| Named::parse(text)).collect(),
        orphans: true,
        unused: true,
        yes: true,
    };
    match parsed("-c x keys 0a0b --orphans 0A0C_pub --unused --destroy --yes -- 0A0D_priv") {
        Ok(Action::Keys(options, questions, wishes)) => {
            assert_eq!((options.config.as_path(), questions, wishes), (Path::new("x"), Questions::default(), wanted));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(parsed("keys --cascade s --json"), Ok(Action::Keys(_, _, wishes)) if wishes.cascade.as_deref() == Some("s"))
    );
    for (line, why) in [
        ("keys 0a0", "\"0a0\" is no identifier of a key, such as 0A0B, 0A0B_pub or 0A0B_priv"),
        ("keys 0a_sec", "\"0a_sec\" is no identifier of a key, such as 0A0B, 0A0B_pub or 0A0B_priv"),
        ("keys --destroy", "--destroy needs to be told what: identifiers, --orphans or --unused"),
        ("keys --destroy 0a --json", "--destroy goes with neither --json nor --cascade"),
        ("keys --yes 0a", "--yes is for --destroy only"),
        ("--orphans", "--orphans is for a command only (keys)"),
        ("check --cascade s", "--cascade is not for the command check"),
    ] {
        assert_eq!(refused(line), format!("cascade-hsm-bridge: {why}"));
    }
}

#[test]
fn knows_the_log_targets() {
    let target = |line: &str| run(line).overrides.log_target.unwrap();
    assert_eq!(target("-l stderr"), logging::Target::Stderr);
    assert_eq!(target("-lfile:/x/y"), logging::Target::File("/x/y".into()));
    let here = std::env::current_dir().unwrap();
    assert_eq!(target("--log file:y"), logging::Target::File(here.join("y")));
    for bad in ["journal", "file:", "file", ""] {
        assert!(refused(&format!("--log={bad}")).ends_with("is none of stderr, syslog, file:PATH"));
    }
}

#[test]
fn answers_help_and_version_whatever_else_is_said() {
    assert_eq!(parsed("-d -h --nonsense"), Ok(Action::Help));
    assert_eq!(parsed("--version"), Ok(Action::Version));
    assert_eq!(parsed("-dV"), Ok(Action::Version));
}

#[test]
fn names_the_nearest_option_for_an_unknown_one() {
    assert_eq!(refused("--confg x"), "cascade-hsm-bridge: unknown option --confg, the nearest is --config");
    assert_eq!(refused("--deamonize"), "cascade-hsm-bridge: unknown option --deamonize, the nearest is --daemonize");
    assert_eq!(refused("--xyzzy"), "cascade-hsm-bridge: unknown option --xyzzy");
    assert_eq!(refused("-x"), "cascade-hsm-bridge: unknown option -x");
}

#[test]
fn refuses_what_makes_no_sense() {
    assert_eq!(refused("serve"), "cascade-hsm-bridge: unexpected argument \"serve\"");
    assert_eq!(refused("check check"), "cascade-hsm-bridge: unexpected argument \"check\"");
    assert_eq!(refused("chekc"), "cascade-hsm-bridge: there is no command \"chekc\", the nearest is check");
    assert_eq!(refused("--sign"), "cascade-hsm-bridge: --sign is for a command only (check)");
    assert_eq!(refused("-d check"), "cascade-hsm-bridge: --daemonize is not for the command check");
    assert_eq!(refused("-c"), "cascade-hsm-bridge: -c needs a value");
    assert_eq!(refused("--daemonize=yes"), "cascade-hsm-bridge: --daemonize takes no value");
    assert!(refused("--log-level loud").contains("\"loud\" is none of"));
    let bytes = [OsString::from("--user"), OsString::from_vec(vec![0xff])];
    assert!(parse(bytes).unwrap_err().to_string().contains("--user: \"\\xFF\" is not UTF-8"));
}

#[test]
fn says_in_the_help_what_each_option_is() {
    let help = help();
    for opt in OPTIONS {
        assert!(help.contains(&format!("--{} {}", opt.long, opt.value.unwrap_or_default())), "{}", opt.long);
        assert!(help.contains(opt.help));
    }
    assert!(help.contains(config::DEFAULT_PATH));
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
}
