//! What the configuration and the bridge itself do for tokens that are not like others: the program on the module that misbehaves on
//! command.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use support::bridge::Options;
use support::key::{ecdsa_sha_256, public_key, rsa_sha_256};
use support::message::Item;
use support::openssl::Scheme;
use support::scratch::Scratch;
use support::tags::{operation, reason};
use support::{Bridge, Client, Faulty, Hsm, KeySpec, Profile, Token, until};

const PASSWORD: &str = "password-6018-of-the-signer";
const SHA_256: Scheme = Scheme::Digest("-sha256");

/// A client with a password, for the token of that name.
fn signer(directory: &Scratch, token: &str) -> String {
    let password = directory.file("password", PASSWORD);
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    format!("[[client]]\nusername = \"signer\"\npassword-file = {password:?}\ntoken = {token:?}\n")
}

fn with(faulty: &Faulty, tables: String) -> Options {
    Options { tables, ..faulty.options() }
}

fn works(token: &Token, client: &mut Client) {
    let pair = client.create_key_pair(&KeySpec::any(token));
    let signature = client.sign(&pair.private, token.sign_parameters(), b"data");
    let key = public_key(&client.get_public(&pair.public, None));
    assert!(key.verifies(SHA_256, b"data", &signature));
}

#[test]
fn a_pin_that_stands_in_the_configuration_opens_the_tokens_that_match() {
    let (token, directory) = (Token::create(), Scratch::new("tokens"));
    let own = format!(
        "[[token]]\nmatch = {{ label = \"nobody*\" }}\npin = \"0000\"\n\
         [[token]]\nmatch = {{ serial = \"no-{serial}\" }}\npin = \"0001\"\n\
         [[token]]\nmatch = {{ manufacturer = \"{}*\", label = \"s?gner*\", serial = \"{serial}\" }}\npin = {:?}\n",
        &token.manufacturer()[..3],
        token.pin,
        serial = token.serial(),
    );
    let tables = own + &signer(&directory, &token.label);
    let bridge = Bridge::start_with(&token, Options { tables, ..Options::default() });
    works(&token, &mut Client::connect_as(&bridge, Some(("signer", PASSWORD))));
    // By another of its names the token is the same.
    works(&token, &mut Client::connect_as(&bridge, Some((&token.serial(), &token.pin))));
}

#[test]
fn a_configuration_that_others_can_read_may_hold_no_pin() {
    let (token, directory) = (Token::create(), Scratch::new("tokens"));
    let text = format!(
        "version = \"v1\"\n[pkcs11]\nlib-path = {:?}\n[[token]]\nname = \"a\"\npin = {:?}\n",
        Token::module(),
        token.pin
    );
    let path = directory.file("config.toml", text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let output = token.command(support::program()).args(["--check-config", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("but a PIN stands in it"), "{said}");
    assert!(!said.contains(&token.pin));
}

#[test]
fn a_token_whose_module_keeps_the_pin_serves_clients_of_the_bridges_own_only() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("tokens"));
    faulty.play(&format!("[token]\nown-pin = {:?}\n", token.pin));
    let tables = format!(
        "[[token]]\nmatch = {{ model = \"{}*\" }}\nlogin = \"none\"\n{}",
        &token.model()[..2],
        signer(&directory, &token.label)
    );
    let bridge = Bridge::start_with(&token, with(&faulty, tables));
    works(&token, &mut Client::connect_as(&bridge, Some(("signer", PASSWORD))));
    let mut other = Client::connect(&bridge, &token);
    other.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
}

#[test]
fn a_pin_is_typed_at_the_token_when_a_client_first_needs_it() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("tokens"));
    faulty.play(&format!("[token]\nown-pin = {:?}\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n", token.pin));
    let tables = format!(
        "[[token]]\nname = {:?}\nlogin = \"protected-path\"\n{}",
        token.label,
        signer(&directory, &token.label)
    );
    let bridge = Bridge::start_with(&token, with(&faulty, tables));
    works(&token, &mut Client::connect_as(&bridge, Some(("signer", PASSWORD))));
    let (_, log) = bridge.stop();
    assert!(log.contains("waiting for its PIN to be typed at the token"), "{log}");
}

#[test]
fn the_module_finds_its_environment_in_the_configuration() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[module]\nneeds-env = [\"VENDOR_CONF\"]\n");
    let tables = "[module.env]\nVENDOR_CONF = \"/etc/vendor.conf\"\n".to_string();
    let bridge = Bridge::start_with(&token, with(&faulty, tables));
    works(&token, &mut Client::connect(&bridge, &token));
    let environment = fs::read(format!("/proc/{}/environ", bridge.pid())).unwrap();
    // What it was started with is what the system shows; what it sets is the module's alone.
    assert!(!String::from_utf8_lossy(&environment).contains("VENDOR_CONF"));
}

#[test]
fn what_the_module_prints_is_logged_apart() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[module]\nstderr = \"vendor: 3 units\\nwarming up\"\n");
    let bridge = Bridge::start_with(&token, with(&faulty, String::new()));
    works(&token, &mut Client::connect(&bridge, &token));
    let (status, log) = bridge.stop();
    assert!(status.success());
    for line in ["vendor: 3 units", "warming up"] {
        assert!(log.contains(&format!("WARN  module-stderr: {line}\n")), "{log}");
    }
    // Every line is one of the bridge's.
    assert!(log.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{log}");
}

#[test]
fn what_the_module_prints_to_the_process_that_proves_a_pin_is_logged_too() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[module]\nstderr = \"vendor: hello\"\n");
    let bridge = Bridge::start_with(&token, with(&faulty, String::new()));
    works(&token, &mut Client::connect(&bridge, &token));
    token.pkcs11_tool(&["--change-pin", "--new-pin", "pin-6677"]);
    works(&token, &mut Client::connect_as(&bridge, Some((&token.label, "pin-6677"))));
    let (_, log) = bridge.stop();
    assert_eq!(log.matches("module-stderr: vendor: hello\n").count(), 2, "{log}");
}

/// The bridge itself, without waiting for it to serve; its log goes to a file.
fn start(token: &Token, faulty: &Faulty, directory: &Scratch, arguments: &[&str]) -> (std::process::Output, String) {
    let log = directory.path().join("log");
    let text = format!(
        "version = \"v1\"\n[pkcs11]\nlib-path = {:?}\n[server]\naddr = \"127.0.0.1:0\"\n[daemon]\nlog-level = \"error\"\nlog-target = {{ type = \"file\", path = {log:?} }}\n",
        faulty.options().module.unwrap()
    );
    let config = directory.file("config.toml", text);
    let mut command: Command = token.command(support::program());
    command
        .args(arguments)
        .arg("--config")
        .arg(config)
        .envs(faulty.options().environment)
        .env("STATE_DIRECTORY", directory.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output, fs::read_to_string(log).unwrap())
}

#[test]
fn the_last_words_of_a_module_that_ends_the_process_are_logged() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("tokens"));
    // It says what is wrong with this, and aborts.
    faulty.play("[[fault]]\nfunctions = \"C_NoSuch\"\n");
    let (output, log) = start(&token, &faulty, &directory, &[]);
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(log.contains("WARN  module-stderr: faulty-module: "), "{log}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_module_that_does_not_start_says_why_in_the_log() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("tokens"));
    faulty.play("[module]\nstderr = \"vendor: no licence\"\nabsent = [\"C_Sign\"]\n");
    let (output, log) = start(&token, &faulty, &directory, &[]);
    assert!(!output.status.success());
    assert!(log.contains("lacks C_Sign"), "{log}");
    // What goes to who started it is the bridge's own word.
    assert!(String::from_utf8_lossy(&output.stderr).contains("lacks C_Sign"));
}

#[test]
fn the_module_is_loaded_by_the_process_that_stays_and_by_no_other() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("tokens"));
    let (output, log) = start(&token, &faulty, &directory, &["--daemonize"]);
    assert!(output.status.success(), "{log}");
    let loaded = faulty.processes();
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    let environment = fs::read(format!("/proc/{}/environ", loaded[0])).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains(directory.path().to_str().unwrap()));
    assert!(Command::new("kill").arg(loaded[0].to_string()).status().unwrap().success());
    until("it ends", || fs::metadata(format!("/proc/{}/exe", loaded[0])).is_err());
    assert_eq!((faulty.count("C_Initialize"), faulty.count("C_Finalize")), (1, 1));
}

#[test]
fn another_mechanism_signs_where_one_that_is_listed_is_refused() {
    let (token, faulty) = (Token::create(), Faulty::new());
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let refuse = |mechanism: &str| {
        format!("[[fault]]\nfunctions = \"C_SignInit\"\nmechanism = \"{mechanism}\"\nrv = \"CKR_MECHANISM_INVALID\"\n")
    };
    // openCryptoki has no CKM_SHA256_RSA_PKCS; some that do list CKM_ECDSA hash by themselves only.
    faulty.play(
        &(refuse("CKM_SHA256_RSA_PKCS") + &refuse("CKM_ECDSA") + "[mechanisms]\nhashed = [\"CKM_ECDSA_SHA256\"]\n"),
    );
    let bridge = Bridge::start_with(&token, with(&faulty, String::new()));
    let mut client = Client::connect(&bridge, &token);
    let rsa = client.create_key_pair(&KeySpec::rsa(2048));
    let ecdsa = client.create_key_pair(&KeySpec::ecdsa(256));
    let block = client.get_public(&rsa.public, None);
    for _ in 0..3 {
        let signature = client.sign(&rsa.private, rsa_sha_256(), b"data");
        assert!(public_key(&block).verifies(SHA_256, b"data", &signature));
    }
    // Refused once, then the other comes first.
    assert_eq!(faulty.count("C_SignInit"), 4);
    let block = client.get_public(&ecdsa.public, None);
    let signature = client.sign(&ecdsa.private, ecdsa_sha_256(), b"data");
    assert!(public_key(&block).verifies(SHA_256, b"data", &signature));
    let (_, log) = bridge.stop();
    assert!(log.contains("mechanisms not used: CKM_SHA256_RSA_PKCS\n"), "{log}");
}

#[test]
fn a_token_that_hashes_by_itself_only_signs_and_one_that_does_not_too() {
    for control in [
        "[mechanisms]\nrefuse = [\"CKM_ECDSA\"]\nhashed = [\"CKM_ECDSA_SHA256\"]\n",
        "[mechanisms]\nrefuse = [\"CKM_SHA256_RSA_PKCS\", \"CKM_ECDSA_SHA256\"]\n",
    ] {
        let (token, faulty) = (Token::create(), Faulty::new());
        if token.cannot_make(&KeySpec::ecdsa(256)) {
            return;
        }
        faulty.play(control);
        let bridge = Bridge::start_with(&token, with(&faulty, String::new()));
        let mut client = Client::connect(&bridge, &token);
        works(&token, &mut client);
        let rsa = client.create_key_pair(&KeySpec::rsa(2048));
        let block = client.get_public(&rsa.public, None);
        let signature = client.sign(&rsa.private, rsa_sha_256(), b"data");
        assert!(public_key(&block).verifies(SHA_256, b"data", &signature));
    }
}

#[test]
fn a_pair_that_a_yubihsm_may_keep_under_no_name_is_told_of() {
    let profile = Profile::named("yubihsm2-plain");
    if Hsm::chosen().is_not(Hsm::SoftHsm2, "the profiles are played over it") {
        return;
    }
    let token = Token::create();
    let faulty = profile.set_stage(&token);
    // Without what its profile has there.
    let bridge = Bridge::start_with(&token, Options { tables: String::new(), ..profile.options(&faulty, &token) });
    let (name, pin) = profile.login(&token);
    let mut client = Client::connect_as(&bridge, Some((&name, &pin)));
    client.call(KeySpec::ecdsa(256).item()).is_refused(reason::PERMISSION_DENIED);
    let log = bridge.log();
    let line = log.lines().find(|line| line.contains("a key pair that nobody can name may be left")).unwrap();
    assert!(line.contains("ERROR") && line.contains("C_GenerateKeyPair: CKR_FUNCTION_REJECTED"), "{line}");
    assert!(log.contains("id-length = 2 and label-max = 40 in [[token]]"), "{log}");
    assert_eq!(faulty.count("C_GenerateKeyPair"), 1);
}

#[test]
fn neither_half_is_renamed_where_only_one_could_be() {
    for fixed in ["CKO_PUBLIC_KEY", "CKO_PRIVATE_KEY"] {
        let (token, faulty) = (Token::create(), Faulty::new());
        faulty.play(&format!(
            "[[fault]]\nfunctions = \"C_SetAttributeValue\"\nclass = \"{fixed}\"\nrv = \"CKR_ATTRIBUTE_READ_ONLY\"\n"
        ));
        let bridge = Bridge::start_with(&token, with(&faulty, String::new()));
        let mut client = Client::connect(&bridge, &token);
        let pair = client.create_key_pair(&KeySpec::any(&token).named("first"));
        for id in [&pair.public, &pair.private] {
            client.call(Client::rename_item(id, "second")).is_refused(reason::PERMISSION_DENIED);
        }
        assert_eq!(
            (client.name_of(&pair.public), client.name_of(&pair.private)),
            ("first-pub".into(), "first-pri".into())
        );
        let (_, log) = bridge.stop();
        assert_eq!(log.matches("labels of keys that are there: cannot be changed").count(), 1, "{log}");
    }
}
