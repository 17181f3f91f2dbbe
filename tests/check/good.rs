//! A set-up that is good, or that wants no more than to be told something.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use cascade_hsm_bridge::config::{self, Overrides};

use super::place::{Place, Said, plays_no_profiles};
use super::support::bridge::Options;
use super::support::ca::Ca;
use super::support::hsm::skipped_in_part;
use super::support::profile::Profile;
use super::support::{Bridge, Faulty, KeySpec, Token};

/// What python3 makes of a JSON text, an element of the array a line; it fails if it is none.
fn read_json(text: &str) -> Vec<String> {
    let script =
        "import json, sys\nfor line in json.load(sys.stdin): print(line['result'], line['subject'], sorted(line))";
    let mut python = Command::new("python3");
    let mut child =
        python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 (make deps)");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn without_a_pin_it_says_what_can_be_seen_without_one() {
    let place = Place::new();
    let said = place.check(&[]);
    let info = place.token.module_info().unwrap();
    let manufacturer = info.lines().find_map(|line| line.strip_prefix("Manufacturer")).unwrap().trim();
    said.line(&format!("ok    module: {manufacturer}, "));
    said.line("ok    token 'signer 5117': slot ");
    said.line("ok    mechanism RSA: made by CKM_RSA_PKCS_KEY_PAIR_GEN (");
    assert!(said.line("warn  login: not tried: the PIN is not known").contains("hint: --pin-file names a file"));
    said.went_well();
    assert!(!place.path("state").exists());
}

#[test]
fn makes_signs_renames_and_destroys_a_key_of_each_algorithm() {
    let place = Place::new();
    let said = place.check_in(&["--sign"]);
    said.went_well();
    said.line("ok    login: done with the PIN of --pin-file");
    let makes = |bits| place.token.makes(&KeySpec::ecdsa(bits));
    let has_edwards = place.token.offers("EC-EDWARDS-KEY-PAIR-GEN", "generate_key_pair");
    for (name, is_made) in [("RSA-2048", true), ("P-256", makes(256)), ("P-384", makes(384)), ("Ed25519", has_edwards)]
    {
        if skipped_in_part(!is_made, format!("the token does not list {name}")) {
            continue;
        }
        let line = said.line(&format!("ok    sign {name}: made in "));
        for part in ["; public key read; ", ", verified", "; renamed in ", "; destroyed in "] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("verified by the token"), "{line}");
    }
    let rates = said.line(&format!("ok    signatures: {} per second and sessions: ", place.quickest()));
    assert!(rates.contains(" with 1, ") && rates.contains(" with 8, "), "{rates}");
    place.assert_empty();
}

#[test]
fn touches_data_objects_only_when_told_to() {
    let place = Place::new();
    place.check_in(&["--sign"]).lacks("ok    data objects");
    let said = place.check_in(&["--data-objects"]);
    said.line("ok    data objects: private ones: made, read, ");
    said.went_well();
    assert!(!place.token.pkcs11_tool(&["--list-objects", "--type", "data"]).contains("bridge-check"));
}

#[test]
fn says_the_same_in_json() {
    let place = Place::new();
    let said = place.check_in(&["--json", "--sign"]);
    let lines = read_json(&said.text);
    assert_eq!(said.code, Some(0));
    for beginning in ["ok token 'signer 5117' ", &format!("ok sign {} ", place.quickest()), "ok signatures "] {
        assert!(lines.iter().any(|line| line.starts_with(beginning)), "{beginning}: {lines:?}");
    }
    assert!(lines.iter().all(|line| line.ends_with("['hint', 'result', 'subject', 'text', 'values']")), "{lines:?}");
    let missing = Command::new(super::support::program()).args(["check", "--json", "-c", "/nonexistent"]).output();
    let said = Said::of(missing.unwrap());
    assert_eq!((read_json(&said.text).len(), said.code), (1, Some(1)));
}

/// What is to be copied from under the line that begins so.
fn copied(said: &Said, beginning: &str) -> Vec<String> {
    said.line(beginning);
    let lines = said.text.lines().skip_while(|line| !line.starts_with(beginning)).skip(1);
    lines.map_while(|line| line.strip_prefix("      ")).map(str::to_owned).collect()
}

#[test]
fn what_was_learnt_can_be_copied_into_the_configuration_and_is_then_as_that_says() {
    const COPY: &str = "ok    learnt: this in the configuration keeps it from having to be learnt again:";
    if plays_no_profiles() {
        return;
    }
    for name in ["tpm2-pkcs11", "yubihsm2"] {
        let place = Place::of(&Profile::named(name));
        let check = |args: &[&str]| Said::of(place.start_in(args).wait_with_output().unwrap());
        let said = check(&["--sign"]);
        assert!(said.text.contains(" in [[token]] says so beforehand\n"), "{}", said.text);
        let table = copied(&said, COPY);
        assert!(table.len() > 2 && table[0] == "[[token]]" && table[1].starts_with("match = { "), "{table:?}");
        let json = format!("\"toml\": \"{}\"", table.join("\n").replace('"', "\\\"").replace('\n', "\\n"));
        assert!(check(&["--sign", "--json"]).text.contains(&json), "{json}");

        let before = std::fs::read_to_string(place.path("config.toml")).unwrap();
        let text = format!("{before}\n{}\n", table.join("\n"));
        let config = place.directory.file("config.toml", &text);
        let judged = config::judge(&config, &text, &Overrides::default(), None);
        assert!(judged.problems.is_empty() && judged.warnings.is_empty(), "{:?}{:?}", judged.problems, judged.warnings);
        let said = check(&["--sign"]);
        said.went_well();
        said.lacks(COPY);
        assert!(!said.text.contains("says so beforehand"), "{}", said.text);
        let decided = said.text.matches(", as the configuration says\n").count();
        assert_eq!(decided, table.len() - 2, "{}", said.text);
    }
}

#[test]
fn a_command_line_that_is_not_understood_is_no_failure_of_the_set_up() {
    for args in [&["--signn"][..], &["--daemonize"], &["--token"], &["check"]] {
        let output = Command::new(super::support::program()).arg("check").args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_does_not_keep_the_token_from_being_looked_at() {
    let place = Place::new();
    place.configure(&Token::module(), "", "[[token]]\nname = 'signer 5117'\npin-file = '/nonexistent/pin'");
    let said = place.check(&[]);
    said.line("FAIL  secrets: cannot read the secret in /nonexistent/pin");
    said.line("ok    token 'signer 5117': ");
    said.line("ok    mechanism RSA: ");
    assert_eq!(said.code, Some(1));
}

#[test]
fn wants_to_be_told_which_of_several_tokens() {
    let place = Place::new();
    place.token.add("other", "pin-2846");
    let said = place.check(&[]);
    assert_eq!(said.code, Some(1));
    assert!(said.line("FAIL  token: there are several tokens").contains("hint: --token says which"));
    place.check(&["--token", "other"]).went_well();
    place.check(&["--token", "third"]).line("FAIL  token: there is no token 'third'");
}

#[test]
fn takes_the_pin_that_the_configuration_names() {
    let place = Place::new();
    let more = format!("[[token]]\nname = 'signer 5117'\npin-file = {:?}", place.path("pin"));
    place.configure(&Token::module(), "", &more);
    let said = place.check(&[]);
    said.line("ok    login: done with the PIN of the configuration");
    said.went_well();
}

#[test]
fn tells_the_sessions_that_the_configuration_allows_this_token() {
    let place = Place::new();
    let table = "[[token]]\nname = 'signer 5117'\nmax-sessions = 5\n[[token]]\nname = 'other'\nmax-sessions = 7";
    place.configure(&Token::module(), "max-sessions = 9", table);
    let line = place.check(&[]).line("ok    sessions: ");
    assert!(line.ends_with("; the bridge opens up to 5"), "{line}");
}

#[test]
fn waits_longer_than_for_a_call_for_a_pin_that_is_typed_at_the_token() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, 60);
    let table = format!("[[token]]\nname = {:?}\nlogin = 'protected-path'", place.token.label);
    place.configure(&place.module(), "call-timeout = 2\ngenerate-timeout = 2\nmax-sessions = 2", &table);
    faulty.play(&format!(
        "[token]\nown-pin = {:?}\nset-flags = ['CKF_PROTECTED_AUTHENTICATION_PATH']\n\
         [[fault]]\nfunctions = 'C_Login'\ndelay-ms = 3000\n",
        place.token.pin
    ));
    let said = place.check(&[]);
    assert!(said.line("ok    flags: ").contains("PIN typed at the token"), "{}", said.text);
    said.line("ok    login: waiting for the PIN to be typed at the token");
    said.line("ok    login: done with the PIN typed at the token");
    said.went_well();
    assert_eq!(faulty.count("C_Login"), 1);
}

#[test]
fn tells_of_a_token_that_is_write_protected() {
    let faulty = Faulty::new();
    let place = Place::with(&faulty, 60);
    faulty.play("[token]\nset-flags = ['CKF_WRITE_PROTECTED']\n");
    let said = place.check(&[]);
    let line = said.line("warn  flags: ");
    assert!(line.contains("write-protected"), "{line}");
    assert!(line.ends_with("\n      hint: keys on it can be used, but not made, renamed or destroyed"), "{line}");
    said.went_well();
}

/// Runs it at a terminal at which `typed` is typed.
fn at_a_terminal(place: &Place, typed: &str) -> Said {
    let check = place.command(&["--data-objects"]);
    let words: Vec<_> = std::iter::once(check.get_program()).chain(check.get_args()).collect();
    let line: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // The shell that `script` starts leaves its place, else it would be interrupted as well, and its exit code be the one that is seen.
    // Where the tests run in the background, the interruption is ignored by whatever they start.
    let line = format!("exec env --default-signal=INT {}", line.join(" "));
    let mut script = place.prepared("script", &[]);
    script = {
        let mut plain = Command::new("script");
        plain.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        plain.envs(script.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        plain
    };
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script (make deps)");
    let mut stdin = child.stdin.take().unwrap();
    let mut said = String::new();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    // Typed before the question it would be thrown away.
    while !said.ends_with("PIN of the token 'signer 5117': ") {
        assert_ne!(std::io::Read::read(&mut stdout, &mut byte).unwrap(), 0, "{said}");
        said.push(char::from(byte[0]));
    }
    stdin.write_all(typed.as_bytes()).unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
    Said::new(child.wait().unwrap().code(), said.replace("\r\n", "\n"))
}

#[test]
fn asks_for_the_pin_at_the_terminal_once_and_does_not_show_it() {
    let place = Place::new();
    let said = at_a_terminal(&place, &format!("{}\n", place.token.pin));
    said.line("ok    login: done with the PIN typed");
    said.line("ok    data objects: ");
    said.went_well();
    assert!(!said.text.contains(&place.token.pin), "{}", said.text);
    assert_eq!(said.text.matches("PIN of the token").count(), 1);
}

#[test]
fn an_interrupted_question_for_the_pin_ends_it() {
    let place = Place::new();
    // The key that interrupts, as the terminal reads it.
    let said = at_a_terminal(&place, "half a p\u{3}");
    said.line("FAIL  process: interrupted by signal 2");
    assert_eq!(said.code, Some(1));
    assert!(!said.text.contains("half a p"), "{}", said.text);
}

#[test]
fn tells_a_port_that_the_running_bridge_has_from_one_that_another_program_has() {
    let place = Place::new();
    let bridge = Bridge::start_with(&place.token, Options::default());
    let config = std::fs::read_to_string(place.path("config.toml")).unwrap();
    let listen_at = |address: String| {
        place.directory.file("config.toml", config.replace("127.0.0.1:0", &address));
        place.check(&[])
    };
    let said = listen_at(bridge.address.to_string());
    said.line(&format!(
        "ok    port: {} is used by the running bridge, process {} of user ",
        bridge.address,
        bridge.pid()
    ));
    said.went_well();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = listen_at(other.local_addr().unwrap().to_string());
    let line = said.line(&format!("FAIL  port: {} is used by check-", other.local_addr().unwrap()));
    assert!(
        line.contains(&format!(", process {} of user ", std::process::id())) && line.contains("\n      hint: "),
        "{line}"
    );
    assert_eq!(said.code, Some(1));
    // No interface has the address.
    let said = listen_at("192.0.2.1:5696".to_owned());
    said.line("FAIL  port: cannot listen on 192.0.2.1:5696: ");
}

#[test]
fn looks_at_the_certificate() {
    let place = Place::new();
    let (certificate, key) = (place.path("cert.pem"), place.path("key.pem"));
    let make = |curve: &str, days: &str| {
        let curve = format!("ec_paramgen_curve:{curve}");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x", "-pkeyopt", &curve, "-days", days])
            .args([
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
                "subjectAltName=DNS:hsm.example,IP:192.0.2.7",
            ])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    place.configure(
        &Token::module(),
        "",
        &format!("[server.identity]\ncert-path = {certificate:?}\nkey-path = {key:?}"),
    );
    make("P-256", "400");
    let said = place.check(&[]);
    said.line(&format!(
        "ok    certificate: {}, ECDSA P-256 key, for DNS:hsm.example, IP:192.0.2.7, expires in ",
        certificate.display()
    ));
    said.lacks("warn  certificate");
    make("P-384", "5");
    let said = place.check(&[]);
    said.line("warn  certificate: it expires in ");
    said.line("warn  certificate: its key is ECDSA P-384");
    said.went_well();
    std::fs::remove_file(&key).unwrap();
    let said = place.check(&[]);
    said.line("FAIL  certificate: server.identity.key-path: cannot read ");
    assert_eq!(said.code, Some(1));
}

#[test]
fn warns_of_what_certificates_of_clients_are_judged_by_once_it_ends() {
    let place = Place::new();
    let clients = Ca::for_days(5);
    let (ca, crl) = (place.path("clients.pem"), place.path("crl.pem"));
    std::fs::write(&ca, &clients.pem).unwrap();
    std::fs::write(&crl, clients.revoke_for(1, -1)).unwrap();
    let tls = format!("[server.tls]\nclient-auth = 'required'\nclient-ca = {ca:?}\ncrl = {crl:?}");
    place.configure(&Token::module(), "", &tls);
    let said = place.check(&[]);
    said.line(&format!(
        "warn  certificate: client CA {}, CN=rcgen self signed cert: it expires in 5 days",
        ca.display()
    ));
    said.line(&format!(
        "warn  certificate: list of revoked certificates {}: it should have been replaced ",
        crl.display()
    ));
    said.went_well();
}
