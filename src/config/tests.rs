//! What the configuration accepts, refuses and means.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::*;

const LEAST: &str = "version = \"v1\"\n[pkcs11]\nlib-path = \"/usr/lib/m.so\"\n";

fn judged(text: &str) -> Judged {
    judge(Path::new("config.toml"), text, &Overrides::default(), None)
}

fn sound(text: &str) -> Config {
    judged(text).sound().unwrap()
}

/// The problems of the least possible file with `more` after it.
fn problems(more: &str) -> Vec<String> {
    judged(&format!("{LEAST}{more}")).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn means_the_defaults_where_nothing_is_said() {
    let config = sound(LEAST);
    assert_eq!(config.pkcs11.lib_path, Path::new("/usr/lib/m.so"));
    assert_eq!((config.pkcs11.max_sessions, config.pkcs11.session_timeout), (64, Duration::from_secs(10)));
    let (call, generate) = (config.pkcs11.call_timeout, config.pkcs11.generate_timeout);
    assert_eq!((call, generate), (Duration::from_secs(20), Duration::from_secs(300)));
    assert_eq!(config.pkcs11.id_length, 20);
    assert_eq!(config.server.addr.to_string(), "127.0.0.1:5696");
    assert_eq!((config.server.max_connections, config.server.max_request_size), (1024, 1 << 20));
    assert_eq!((config.server.max_connections_per_peer, config.server.max_unauthenticated), (256, 128));
    assert_eq!(config.server.max_unauthenticated_request_size, 1 << 16);
    assert_eq!(config.server.unauthenticated_timeout, Duration::from_secs(30));
    assert_eq!((config.bridge.limits.batch_items, config.bridge.max_response_size), (1000, 1 << 20));
    assert_eq!(config.bridge.limits.depth, 16);
    assert_eq!(config.bridge.failed_logins, FailedLogins::default());
    assert_eq!((config.pkcs11.max_pin_tries, config.pkcs11.max_changed_pin_tries), (10, 2));
    assert_eq!(config.server.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.server.request_timeout, Duration::from_secs(30));
    assert_eq!(config.server.write_timeout, Duration::from_secs(30));
    assert_eq!(config.server.idle_timeout, Duration::from_secs(600));
    assert_eq!(config.server.drain_timeout, Duration::from_secs(10));
    assert_eq!((config.tls.identity, config.tls.min_version), (None, tls::TlsVersion::V1_3));
    assert!(config.tls.names.is_empty());
    assert_eq!(config.log, logging::Settings { level: LevelFilter::Info, target: logging::Target::Stderr });
    assert_eq!(config.daemon, Daemon { daemonize: false, identity: None, pid_file: None });
    assert_eq!(config.state_dir, Path::new("/var/lib/cascade-hsm-bridge"));
    assert_eq!(config.tls.state_dir, config.state_dir);
}

#[test]
fn accepts_the_incumbents_file_unchanged() {
    let config = sound(
        r#"
        version = "v1"
        [pkcs11]
        lib-path = "/usr/lib/softhsm/libsofthsm2.so"
        [server]
        addr = "[::1]:5697"
        [server.identity]
        cert-path = "/etc/cert.pem"
        key-path = "/etc/key.pem"
        [daemon]
        log-level = "warning"
        log-target = { type = "file", path = "/var/log/cascade-hsm-bridge.log" }
        daemonize = true
        pid-file = "/var/run/cascade-hsm-bridge.pid"
        identity = "root:root"
        "#,
    );
    assert_eq!(config.server.addr.to_string(), "[::1]:5697");
    let identity = config.tls.identity.unwrap();
    assert_eq!((identity.cert_path, identity.key_path), ("/etc/cert.pem".into(), "/etc/key.pem".into()));
    assert_eq!(config.log.level, LevelFilter::Warn);
    assert_eq!(config.log.target, logging::Target::File("/var/log/cascade-hsm-bridge.log".into()));
    assert!(config.daemon.daemonize);
    assert_eq!(config.daemon.pid_file.unwrap(), Path::new("/var/run/cascade-hsm-bridge.pid"));
    assert_eq!(config.daemon.identity.map(|identity| (identity.uid, identity.gid)), Some((0, 0)));
}

#[test]
fn takes_relative_paths_from_the_working_directory_with_a_warning() {
    let text =
        "version = 'v1'\n[pkcs11]\nlib-path = 'lib/m.so'\n[server.identity]\ncert-path = 'c'\nkey-path = '../k'\n";
    let judged = judged(text);
    let here = std::env::current_dir().unwrap();
    assert_eq!(judged.warnings.len(), 3);
    let expected = format!("\"lib/m.so\" is not an absolute path, here it is {:?}", here.join("lib/m.so"));
    assert_eq!(judged.warnings.iter().find(|warning| warning.line == Some(3)).unwrap().what, expected);
    let config = judged.sound().unwrap();
    assert_eq!(config.pkcs11.lib_path, here.join("lib/m.so"));
    assert_eq!(config.tls.identity.unwrap().cert_path, here.join("c"));
}

#[test]
fn a_warning_shows_no_control_character_of_the_file() {
    let judged = judged("version = 'v1'\n[pkcs11]\nlib-path = 'lib/m\todule.so'\n");
    assert!(judged.warnings.iter().all(|warning| !warning.what.contains('\t')), "{:?}", judged.warnings[0].what);
}

#[test]
fn leaves_a_bare_name_of_a_module_to_the_systems_loader() {
    let judged = judged("version = 'v1'\n[pkcs11]\nlib-path = 'm.so'\n");
    assert!(judged.warnings[0].what.contains("the system's loader looks for it"));
    assert_eq!(judged.sound().unwrap().pkcs11.lib_path, Path::new("m.so"));
}

#[test]
fn accepts_the_older_spellings_with_warnings() {
    let text = "version = 'v1'\n[pkcs11]\nlib_path = '/m.so'\n[server.identity]\ncert_path = '/c'\nkey_path = '/k'\n";
    let judged = judged(text);
    assert_eq!(judged.warnings.len(), 3);
    assert_eq!(judged.sound().unwrap().pkcs11.lib_path, Path::new("/m.so"));
}

#[test]
fn reports_every_problem_at_once_in_the_order_of_the_file() {
    let judged = judged(
        "version = 'v2'\n[pkcs11]\nlib-path = ''\nmax-sessions = 'x'\n[server]\nmax-connections = 0\nadr = 1\n\
         [server.identity]\ncert-path = '/c'\n[daemon]\nlog-level = 'loud'\n",
    );
    let found: Vec<_> = judged.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "version: \"v2\" is not \"v1\" (line 1)",
            "pkcs11.lib-path: \"\" is not an absolute path: cannot make an empty path absolute (line 3)",
            "pkcs11.max-sessions: \"x\" is a string, not a whole number (line 4)",
            "server.max-connections: 0 is not between 1 and 65535 (line 6)",
            "server.adr: unknown key, the nearest is server.addr (line 7)",
            "daemon.log-level: \"loud\" is not one of \"trace\", \"debug\", \"info\", \"warning\", \"warn\", \"error\" (line 11)",
            "server.identity.key-path: is missing, but server.identity.cert-path is there",
        ]
    );
    let text = judged.sound().unwrap_err().to_string();
    assert!(text.contains("\nconfig.toml: server.max-connections: 0 is not between 1 and 65535 (line 6)\n"));
}

#[test]
fn requires_version_and_module() {
    let found: Vec<_> = judged("").problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "version: is missing; it has to be there: version = \"v1\"",
            "pkcs11.lib-path: is missing; it has to be there: the path of the PKCS#11 module",
        ]
    );
}

#[test]
fn reports_only_the_syntax_error_of_a_file_that_is_not_toml() {
    let judged = judged("version = \n");
    assert_eq!(judged.problems.len(), 1);
    assert!(judged.problems[0].to_string().starts_with("line 1, column 1"), "{}", judged.problems[0]);
}

#[test]
fn refuses_numbers_out_of_range() {
    for (key, bad) in [
        ("pkcs11.max-sessions", ["0", "65536"]),
        ("pkcs11.session-timeout", ["0", "-1"]),
        ("pkcs11.generate-timeout", ["0", "3601"]),
        ("pkcs11.id-length", ["0", "65"]),
        ("server.max-connections", ["0", "99999999999999999999999"]),
        ("server.max-connections-per-peer", ["0", "65536"]),
        ("server.max-unauthenticated", ["0", "65536"]),
        ("server.max-request-size", ["1023", "16777217"]),
        ("server.max-unauthenticated-request-size", ["1023", "16777217"]),
        ("server.max-response-size", ["8191", "16777217"]),
        ("server.max-nesting-depth", ["8", "65"]),
        ("server.unauthenticated-timeout", ["0", "3601"]),
        ("kmip.max-batch-items", ["0", "100001"]),
        ("server.handshake-timeout", ["0", "3601"]),
        ("server.idle-timeout", ["0", "1.5"]),
        ("server.drain-timeout", ["-1", "3601"]),
    ] {
        for value in bad {
            let (table, name) = key.split_once('.').unwrap();
            let table = if table == "pkcs11" { String::new() } else { format!("[{table}]\n") };
            let found = problems(&format!("{table}{name} = {value}\n"));
            assert_eq!(found.len(), 1, "{key} = {value}: {found:?}");
            assert!(found[0].starts_with(&format!("{key}: {value} is not ")), "{}", found[0]);
        }
    }
    assert!(problems("id-length = 0x40\nmax-sessions = 65_535\n").is_empty());
}

#[test]
fn refuses_addresses_that_need_a_resolver_or_lack_a_port() {
    for addr in ["localhost:5696", "127.0.0.1", "::1:5696:", ""] {
        let found = problems(&format!("[server]\naddr = '{addr}'\n"));
        assert!(found[0].contains("is not an IP address with a port"), "{found:?}");
    }
}

#[test]
fn refuses_a_log_target_that_does_not_add_up() {
    let target = |text: &str| problems(&format!("[daemon]\nlog-target = {text}\n"));
    assert_eq!(target("{ type = 'file' }"), ["daemon.log-target.path: is missing: it names the file"]);
    assert_eq!(
        target("{ type = 'syslog', path = '/x' }"),
        ["daemon.log-target.path: is only for type = \"file\" (line 5)"]
    );
    assert_eq!(
        target("{ type = 'journal' }"),
        ["daemon.log-target.type: \"journal\" is not one of \"file\", \"stderr\", \"syslog\" (line 5)"]
    );
    assert_eq!(target("'syslog'"), ["daemon.log-target: \"syslog\" is a string, not a table (line 5)"]);
    assert!(target("{ type = 'syslog' }").is_empty());
}

#[test]
fn refuses_life_cycles_that_are_not_there() {
    assert_eq!(problems("[kmip]\nlifecycle = 'token'\n"), ["kmip.lifecycle: \"token\" is not \"none\" (line 5)"]);
    assert!(problems("[kmip]\nlifecycle = 'none'\n").is_empty());
}

#[test]
fn refuses_names_that_no_certificate_can_hold() {
    assert!(problems("[server.tls]\nnames = ['hsm.example', '10.0.0.1', 'fe80::1']\n").is_empty());
    let found = problems("[server.tls]\nnames = ['a b']\nmin-version = 1.2\n");
    assert_eq!(found[0], "server.tls.names: \"a b\" is neither a host name nor an IP address (line 5)");
    assert_eq!(found[1], "server.tls.min-version: 1.2 is not a word in quotes (line 6)");
}

#[test]
fn warns_of_a_short_idle_timeout() {
    let judged = judged(&format!("{LEAST}[server]\nidle-timeout = 60\n"));
    assert!(judged.warnings[0].to_string().starts_with("server.idle-timeout: 60 seconds is short"));
    assert_eq!(judged.sound().unwrap().server.idle_timeout, Duration::from_secs(60));
}

#[test]
fn finds_the_identity_by_name_or_number() {
    let identity = |text: &str| sound(&format!("{LEAST}[daemon]\nidentity = '{text}'\n")).daemon.identity.unwrap();
    assert_eq!((identity("root").uid, identity("root").gid), (0, 0));
    assert_eq!((identity("1:2").uid, identity("1:2").gid), (1, 2));
    assert_eq!(identity("4000111222:7").name, None);
    let refused = |text: &str| problems(&format!("[daemon]\nidentity = '{text}'\n")).remove(0);
    assert_eq!(refused("no-such-user"), "daemon.identity: there is no user \"no-such-user\" (line 5)");
    assert_eq!(refused("root:no-such-group"), "daemon.identity: there is no group \"no-such-group\" (line 5)");
    assert_eq!(refused("4000111222"), "daemon.identity: \"4000111222\" needs a group, as in \"user:group\" (line 5)");
    assert!(refused("").contains("there is no user \"\""));
}

#[test]
fn lets_the_command_line_have_the_last_word() {
    let overrides = Overrides {
        daemonize: true,
        group: Some("3".to_owned()),
        log_level: Some(LevelFilter::Trace),
        log_target: Some(logging::Target::Syslog),
        state_dir: Some("/srv/state".into()),
        user: Some("4000111222".to_owned()),
    };
    let text = format!("{LEAST}[daemon]\nlog-level = 'error'\nidentity = 'root'\n");
    let config = judge(Path::new("c"), &text, &overrides, None).sound().unwrap();
    assert!(config.daemon.daemonize);
    assert_eq!(config.log, logging::Settings { level: LevelFilter::Trace, target: logging::Target::Syslog });
    assert_eq!(config.daemon.identity, Some(sys::Identity { name: None, uid: 4_000_111_222, gid: 3 }));
    assert_eq!((config.state_dir, config.tls.state_dir), ("/srv/state".into(), "/srv/state".into()));
}

#[test]
fn refuses_a_group_without_a_user() {
    let overrides = Overrides { group: Some("root".to_owned()), ..Overrides::default() };
    let judged = judge(Path::new("c"), LEAST, &overrides, None);
    assert_eq!(judged.problems[0].to_string(), "--group: needs a user too, of --user or daemon.identity");
}

#[test]
fn blames_the_option_that_is_wrong_and_no_file() {
    let judged = |user: Option<&str>, group: Option<&str>| {
        let overrides =
            Overrides { user: user.map(str::to_owned), group: group.map(str::to_owned), ..Overrides::default() };
        judge(Path::new("c"), &format!("{LEAST}[daemon]\nidentity = 'root:root'\n"), &overrides, None)
    };
    let refused = |user, group| judged(user, group).sound().unwrap_err().to_string();
    assert_eq!(refused(Some("no-such"), None), "--user: there is no user \"no-such\"");
    assert_eq!(refused(Some("root"), Some("no-such")), "--group: there is no group \"no-such\"");
    assert_eq!(refused(None, Some("no-such")), "--group: there is no group \"no-such\"");
    assert_eq!(
        refused(Some("no-such"), Some("none")),
        "--user: there is no user \"no-such\"\n--group: there is no group \"none\""
    );
    assert_eq!(refused(Some("4000111222"), None), "--user: \"4000111222\" needs a group, of --group");
    assert_eq!(judged(Some("4000111222"), Some("7")).sound().unwrap().daemon.identity.unwrap().gid, 7);
}

#[test]
fn warns_of_an_identity_that_is_root() {
    let warning = |identity: &str| judged(&format!("{LEAST}[daemon]\nidentity = '{identity}'\n")).warnings.pop();
    for root in ["root", "0:5"] {
        assert!(warning(root).unwrap().what.ends_with("is root, and so will the PKCS#11 module be"));
    }
    assert!(warning("4000111222:0").is_none());
}

#[test]
fn prefers_the_written_state_directory_then_the_service_managers() {
    let dir = |text: &str, given: Option<&str>| {
        judge(Path::new("c"), text, &Overrides::default(), given.map(OsStr::new)).sound().unwrap().state_dir
    };
    let written = format!("{LEAST}[daemon]\nstate-dir = '/srv/state'\n");
    assert_eq!(dir(&written, Some("/var/lib/x")), Path::new("/srv/state"));
    assert_eq!(dir(LEAST, Some("/var/lib/x:/var/lib/y")), Path::new("/var/lib/x"));
    assert_eq!(dir(LEAST, Some("")), Path::new("/var/lib/cascade-hsm-bridge"));
    assert_eq!(dir(LEAST, None), Path::new("/var/lib/cascade-hsm-bridge"));
}

#[test]
fn tells_why_a_file_cannot_be_read() {
    let error = read(Path::new("/nonexistent/config.toml"), &Overrides::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file /nonexistent/config.toml: No such file"));
    assert!(error.ends_with("\nhint: --config names another file"));
    let error = read(Path::new("/"), &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
    assert!(read(Path::new("/dev/zero"), &Overrides::default()).unwrap_err().to_string().contains("more than"));
}

#[test]
fn warns_of_a_file_that_anyone_may_write_and_refuses_one_that_is_not_text() {
    let path = std::env::temp_dir().join(format!("chb-config-{}.toml", std::process::id()));
    std::fs::write(&path, LEAST).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let judged = read(&path, &Overrides::default());
    std::fs::write(&path, b"version = 'v1'\n# \xff\n").unwrap();
    let refused = read(&path, &Overrides::default());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(judged.unwrap().warnings[0].to_string(), "file: anyone may write it (mode 666)");
    assert!(refused.unwrap_err().to_string().ends_with("line 2 is not UTF-8"));
}

#[test]
fn variables_for_the_module_are_read_and_never_shown() {
    let config = sound(&format!("{LEAST}[module.env]\nSOFTHSM2_CONF = '/c'\nVENDOR2_PIN = 's3cret'\n"));
    assert_eq!(config.environment.len(), 2);
    let texts: Vec<_> = config.environment.iter().map(|(name, text)| (name.as_str(), text.expose())).collect();
    assert_eq!(texts, [("SOFTHSM2_CONF", "/c"), ("VENDOR2_PIN", "s3cret")]);
    assert!(!format!("{config:?}").contains("s3cret"));
    for (entry, expected) in [
        ("A = 73915", "module.env: is a table, not a table of names, each with text in quotes"),
        ("'A=B' = '73915'", "\"A=B\" is no name of a variable"),
        ("A = '73915\\u0000'", "is no"),
    ] {
        let found = problems(&format!("[module.env]\n{}\n", entry.replace("'73915\\u0000'", "\"73915\\u0000\"")));
        assert_eq!(found.len(), 1, "{entry}");
        assert!(!found[0].contains("73915"), "{}", found[0]);
        assert!(found[0].contains(expected) || found[0].contains("holds a NUL"), "{}", found[0]);
    }
    let judged = judged(&format!("{LEAST}[module.env]\nLD_LIBRARY_PATH = '/lib'\n"));
    assert!(judged.warnings[0].what.contains("LD_LIBRARY_PATH has no effect here"));
}

#[test]
fn a_pin_in_a_file_that_others_may_use_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("chb-config-pin-{}", std::process::id()));
    std::fs::write(&path, format!("{LEAST}[[token]]\nname = 'a'\npin = '73915'\n")).unwrap();
    let refused = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let judged = read(&path, &Overrides::default()).unwrap();
        judged.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = [refused(0o644), refused(0o640), refused(0o600)];
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found[0], ["file: everyone on this machine may use it (mode 644), but a PIN stands in it"]);
    assert!(found[1].is_empty() && found[2].is_empty());
}

#[test]
fn a_client_is_known_by_something_that_others_do_not_have() {
    let table = |how: &str| {
        format!(
            "[server.tls]\nclient-auth = \"required\"\nclient-ca = \"/etc/ca.pem\"\n\
             [[token]]\nname = \"one\"\npin-file = \"/etc/pin\"\n[[client]]\ntoken = \"one\"\n{how}\n"
        )
    };
    for how in
        ["subject = \"CN=signer\"", "san = \"DNS:signer.example\"", "username = \"s\"\npassword-file = \"/etc/s\""]
    {
        assert_eq!(problems(&table(how)), Vec::<String>::new(), "{how}");
    }
    for (how, why) in [
        ("subject = \"\"", "subject is empty"),
        ("san = \"DNS:\"", "is not a name behind"),
        ("san = \"IP:192.0.2.1\"", "is not a name behind"),
        ("username = \"\"\npassword-file = \"/etc/s\"", "has to have one of"),
        ("username = \"s\"", "has to have one of"),
        ("", "has to have one of"),
        ("subject = \"CN=a\"\nsan = \"DNS:a\"", "has to have one of"),
        ("fingerprint = \"00\"", "64 hexadecimal digits"),
    ] {
        let problems = problems(&table(how));
        assert!(problems.len() == 1 && problems[0].contains(why), "{how}: {problems:?}");
    }
}
