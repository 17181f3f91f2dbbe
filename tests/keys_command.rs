//! The command `keys`: what it says of a token, what it prints for Cascade, what it destroys and what it asks before.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::bridge::Options;
use support::hsm::{Hsm, skipped, skipped_in_part};
use support::openssl::PublicKey;
use support::scratch::Scratch;
use support::secrets::Secrets;
use support::{Bridge, Client, Faulty, KeySpec, Profile, Token, others};

#[test]
fn makes_keys_where_it_is_told_to() {
    others::maker();
}

/// A token, and a configuration that names it.
struct Place {
    token: Token,
    directory: Scratch,
    /// What the module wants, where it is not the token's own.
    environment: Vec<(&'static str, PathBuf)>,
}

impl Place {
    fn new() -> Place {
        let place = Place { token: Token::create(), directory: Scratch::new("keys"), environment: Vec::new() };
        place.configure("");
        place.secret("pin", &place.token.pin);
        place
    }

    /// With a token that makes keys on P-256, none where that is not listed.
    fn with_p256() -> Option<Place> {
        let place = Place::new();
        (!place.token.cannot_make(&KeySpec::ecdsa(256))).then_some(place)
    }

    fn configure(&self, pkcs11: &str) {
        let module = Token::module();
        self.directory.file("config.toml", format!("version = \"v1\"\n[pkcs11]\nlib-path = {module:?}\n{pkcs11}\n"));
    }

    /// On the module that plays a vendor's, with the PIN and the name that a client would say there; and that name.
    fn of(profile: &Profile) -> Option<(Place, Faulty, String)> {
        if Hsm::chosen().is_not(Hsm::SoftHsm2, "the profiles are played over it") {
            return None;
        }
        let place = Place::new();
        let faulty = profile.set_stage(&place.token);
        let options = profile.options(&faulty, &place.token);
        let (name, pin) = profile.login(&place.token);
        place.secret("pin", &pin);
        Some((place.with(options), faulty, name))
    }

    /// On the module that misbehaves, with these tables in the configuration.
    fn on(faulty: &Faulty, tables: &str) -> Option<Place> {
        let options = Options { tables: tables.to_owned(), ..faulty.options() };
        Some(Place::with_p256()?.with(options))
    }

    fn with(self, options: Options) -> Place {
        let (module, tables) = (options.module.unwrap(), options.tables);
        self.directory.file("config.toml", format!("version = \"v1\"\n[pkcs11]\nlib-path = {module:?}\n{tables}\n"));
        Place { environment: options.environment, ..self }
    }

    fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.file(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.token.command(program);
        command.stdin(Stdio::null()).envs(self.environment.iter().cloned());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it with the PIN from a file: exit code, what it printed, and what it complained of.
    fn keys(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(support::program());
        command.args(["keys", "-c"]).arg(self.path("config.toml")).arg("--pin-file").arg(self.path("pin")).args(args);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let (said, complaint) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        let secrets = Secrets::default();
        secrets.add_file(&self.path("pin"));
        secrets.are_not_in(&format!("{said}{complaint}"), "");
        (status.code(), said, complaint)
    }

    /// The same without a PIN.
    fn keys_without_pin(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command("setsid");
        command.arg("-w").arg(support::program()).args(["keys", "-c"]).arg(self.path("config.toml")).args(args);
        let Output { status, stdout, stderr } = command.output().expect("setsid (make deps)");
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// The same, of which nothing went wrong; modules have their own ways with standard error, or are warned of.
    fn told(&self, args: &[&str]) -> String {
        let (code, said, complaint) = self.keys(args);
        assert_eq!(code, Some(0), "{said}{complaint}");
        let is_ours = |line: &str| line.starts_with("hint: ") || line.starts_with("cascade-hsm-bridge: ");
        let is_quiet = self.token.hsm() == Hsm::SoftHsm2;
        assert!(!complaint.lines().any(is_ours) && (complaint.is_empty() || !is_quiet), "{complaint}");
        said
    }

    /// Whether the private key with that CKA_ID, of which there is no public key object, tells the public key all the same; then the test
    /// is left out.
    fn tells_public_key_of(&self, id: &str) -> bool {
        let tells = self.told(&[id]).contains("the private key tells it");
        let hsm = self.token.hsm();
        skipped(tells && hsm != Hsm::SoftHsm2, format!("{hsm}: private keys tell their public ones"))
    }

    /// Runs it at a terminal where `typed` is typed after `question`: exit code, and all that the terminal shows.
    fn at_a_terminal(&self, args: &str, question: &str, typed: &str) -> (Option<i32>, String) {
        let program = support::program();
        let line = format!("{} keys -c {} {args}", program.display(), self.path("config.toml").display());
        let mut command = self.command("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script (make deps)");
        let mut shown = Vec::new();
        let mut output = child.stdout.take().unwrap();
        // What is typed too early is thrown away.
        while !String::from_utf8_lossy(&shown).contains(question) {
            let mut part = [0; 256];
            let len = output.read(&mut part).unwrap();
            assert_ne!(len, 0, "{}", String::from_utf8_lossy(&shown));
            shown.extend_from_slice(&part[..len]);
        }
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        output.read_to_end(&mut shown).unwrap();
        (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
    }
}

const PROMPT: &str = "PIN of the token 'signer 5117': ";
const QUESTION: &str = "Destroy them? Type yes to do so: ";

/// What python3 makes of a JSON text by an expression of `keys`.
fn read_json(text: &str, expression: &str) -> String {
    let script = format!("import json, sys\nkeys = json.load(sys.stdin)['keys']\nprint({expression})");
    let mut python = Command::new("python3");
    let mut child =
        python.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 (make deps)");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn generate(token: &Token, kind: &str, id: &str, label: &str) {
    token.pkcs11_tool(&["--keypairgen", "--key-type", kind, "--id", id, "--label", label, "--usage-sign"]);
}

/// A DNSKEY record of a P-256 key on the token.
fn record(token: &Token, id: &str, flags: u16) -> String {
    let directory = Scratch::new("record");
    let der = directory.path().join("public.der");
    token.pkcs11_tool(&["--read-object", "--type", "pubkey", "--id", id, "--output-file", der.to_str().unwrap()]);
    let key = PublicKey::from_subject_public_key_info(&std::fs::read(der).unwrap());
    let info = key.subject_public_key_info();
    let point = directory.file("point", &info[info.len() - 64..]);
    let output = Command::new("openssl").args(["base64", "-A", "-in"]).arg(point).output().unwrap();
    format!("example.net. IN DNSKEY {flags} 3 13 {}\n", String::from_utf8(output.stdout).unwrap())
}

#[test]
fn tells_of_every_pair_what_clients_see() {
    let place = Place::new();
    assert!(place.told(&[]).ends_with(": no such keys\n"));
    let (work, kind) = match place.token.makes(&KeySpec::ecdsa(256)) {
        true => ("incumbent p256", "ECDSA, 256 bits"),
        false => ("incumbent rsa", "RSA, 2048 bits"),
    };
    if others::cannot_make(&place.token, work, "0a0b")
        || others::cannot_make(&place.token, "opendnssec", "00112233445566778899aabbccddeeff")
    {
        return;
    }
    let said = place.told(&[]);
    let slot = place.token.slot();
    assert!(said.starts_with(&format!("token 'signer 5117', serial {}, slot {slot}: 2 keys\n", place.token.serial())));
    let expected = format!(
        "
0A0B: {kind}
  private  0A0B_priv, Active, \"example.org-12345-zsk-pri\", Sign
  public   0A0B_pub, Active, \"example.org-12345-zsk-pub\", Verify
"
    );
    assert!(said.contains(&expected), "{said}");
    let id = "00112233445566778899AABBCCDDEEFF";
    let expected = format!(
        "
{id}: RSA, 2048 bits
  private  {id}_priv, Active, \"{lower}\", Sign
  public   {id}_pub, Active, Verify, no object, the private key tells it
",
        lower = id.to_lowercase()
    );
    assert!(said.contains(&expected), "{said}");
    let only = place.told(&["0a0b_priv"]);
    assert!(only.contains("0A0B_priv") && !only.contains(id), "{only}");
}

#[test]
fn tells_the_same_in_json() {
    let place = Place::new();
    generate(&place.token, place.token.any_kind(), "01", "a \"quoted\" label");
    let facts = if place.token.makes(&KeySpec::ecdsa(256)) { "01 ECDSA 256" } else { "01 RSA 1024" };
    let json = place.told(&["--json"]);
    for (expression, value) in [
        ("len(keys)", "1"),
        ("keys[0]['id'], keys[0]['algorithm'], keys[0]['length']", facts),
        ("keys[0]['private'][0]['label']", "a \"quoted\" label"),
        ("sorted(keys[0]['public'][0].items())[0]", "('identifier', '01_pub')"),
        ("keys[0]['private'][0]['usage'][0], keys[0]['public'][0]['place']", "Sign object"),
        ("keys[0]['orphan'], keys[0]['unused'], keys[0]['zones'], keys[0]['oddities']", "False False [] []"),
    ] {
        assert_eq!(read_json(&json, expression), value, "{expression}");
    }
}

#[test]
fn finds_half_pairs_and_keys_that_nobody_named() {
    let Some(place) = Place::with_p256() else { return };
    for (id, label) in [("01", "whole"), ("02", "private only"), ("03", "public only")] {
        generate(&place.token, "EC:prime256v1", id, label);
    }
    let first_name = "0123456789abcdef".repeat(4);
    generate(&place.token, "EC:prime256v1", "04", &first_name);
    place.token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "02"]);
    place.token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "03"]);
    if place.tells_public_key_of("02") {
        return;
    }
    // Not a half pair: what is missing is told.
    let made = others::make(&place.token, "opendnssec", "05");
    let all = if skipped_in_part(made.is_err(), "the module does not make keys of OpenDNSSEC") {
        "01 02 03 04"
    } else {
        "01 02 03 04 05"
    };
    let ids = |args: &[&str]| read_json(&place.told(&[args, &["--json"]].concat()), "*[key['id'] for key in keys]");
    assert_eq!(ids(&[]), all);
    assert_eq!(ids(&["--orphans"]), "02 03");
    assert_eq!(ids(&["--unused"]), "04");
    assert_eq!(ids(&["--unused", "--orphans"]), "02 03 04");
    assert_eq!(ids(&["--orphans", "03", "04_pub"]), "03");
    let said = place.told(&["--unused"]);
    assert!(said.contains("\n  unused   it still has the name of a new key"), "{said}");
    assert!(place.told(&["02"]).contains("\n  public   none\n"));
}

#[test]
fn tells_odd_objects_from_keys() {
    let place = Place::new();
    if others::cannot_make(&place.token, "odd", "aa") {
        return;
    }
    for label in ["one", "two"] {
        generate(&place.token, "EC:prime256v1", "0c", label);
    }
    // Two halves that are none of one pair.
    generate(&place.token, "rsa:2048", "0d", "one");
    place.token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "0d"]);
    generate(&place.token, "rsa:2048", "0e", "two");
    place.token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "0e"]);
    place.token.pkcs11_tool(&["--set-id", "0d", "--id", "0e", "--type", "pubkey"]);
    let said = place.told(&[]);
    for part in [
        "no CKA_ID: a key of another kind\n  private  \"nameless\", no use\n  odd      it has no CKA_ID, so clients cannot name it\n",
        "AA01: a key of another kind\n",
        "  odd      it is of a kind that is not served\n",
        "\"\u{fffd}\u{fffd}\u{fffd}\"",
        "  odd      2 private key objects have this CKA_ID, so clients cannot use any\n",
        "  odd      the public key is not that of the private key, though their CKA_ID is the same\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn prints_the_arguments_of_cascades_import() {
    let Some(place) = Place::with_p256() else { return };
    for (id, label) in [("01", "k"), ("02", "z"), ("03", "unknown")] {
        generate(&place.token, "EC:prime256v1", id, label);
    }
    generate(&place.token, "rsa:2048", "04", "rsa");
    generate(&place.token, "EC:prime256v1", "05", "half");
    place.token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "05"]);
    let files = Scratch::new("files");
    for (id, flags) in [("01", 257), ("02", 256)] {
        files.file(&format!("K{id}.key"), record(&place.token, id, flags));
    }
    place.configure(&format!("public-keys = {:?}", files.path()));
    let said = place.told(&["--cascade", "hsm1"]);
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        ["--import-ksk-kmip hsm1 01_pub 01_priv 13 257", "--import-zsk-kmip hsm1 02_pub 02_priv 13 256"],
        "{said}"
    );
    for part in [
        "\n# 03 \"unknown\": what it is for is not known here; one of\n#   --import-ksk-kmip hsm1 03_pub 03_priv 13 257\n",
        "\n#   --import-zsk-kmip hsm1 04_pub 04_priv 8|10 256\n",
        "\n# 05 \"half\": clients cannot use it as a pair: there is no private key\n",
        "; in Cascade kmip://hsm1/keys/02_pub?algorithm=13&flags=256\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let json = place.told(&["--cascade", "hsm1", "--json", "01", "03"]);
    let arguments = "[['--import-ksk-kmip', 'hsm1', '01_pub', '01_priv', '13', '257']] []";
    assert_eq!(read_json(&json, "*[key['imports'] for key in keys]"), arguments);
    // Signers that share keys have a record of one for each zone.
    files.file("shared.key", record(&place.token, "01", 257).replace("example.net.", "example.org."));
    let said = place.told(&["--cascade", "hsm1", "01"]);
    assert!(said.contains("\n--import-csk-kmip hsm1 01_pub 01_priv 13 257\n"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("--import-")).count(), 2, "{said}");
}

#[test]
fn knows_what_a_key_is_for_by_the_name_that_dnst_gave_it() {
    let Some(place) = Place::with_p256() else { return };
    let bridge = Bridge::start(&place.token);
    let mut client = Client::connect(&bridge, &place.token);
    let pair = client.create_key_pair(&KeySpec::ecdsa(256));
    let id = pair.public.strip_suffix("_pub").unwrap();
    let record = record(&place.token, id, 257);
    // The key tag as python3 computes it from RFC 4034, appendix B.
    let script = "import base64, sys\nf = sys.argv[1].split()\n\
        d = int(f[3]).to_bytes(2, 'big') + bytes([3, 13]) + base64.b64decode(f[6])\n\
        s = sum(b << 8 if i % 2 == 0 else b for i, b in enumerate(d))\nprint((s + (s >> 16)) & 0xffff)";
    let tag = Command::new("python3").args(["-c", script, &record]).output().unwrap();
    let tag = String::from_utf8(tag.stdout).unwrap().trim().to_owned();
    for (half, end) in [(&pair.public, "pub"), (&pair.private, "pri")] {
        client.call(Client::rename_item(half, &format!("example.net-{tag}-ksk-{end}"))).payload();
    }
    let said = place.told(&[]);
    let zone = format!("\n  zone     ksk of example.net, flags 257, algorithm 13, key tag {tag}, says its name\n");
    assert!(said.contains(&zone), "{said}");
    let said = place.told(&["--cascade", "a server"]);
    let line = format!("\n--import-ksk-kmip 'a server' {} {} 13 257\n", pair.public, pair.private);
    assert!(said.contains(&line), "{said}");
}

#[test]
fn destroys_what_it_is_told_to_and_only_that() {
    let Some(place) = Place::with_p256() else { return };
    for (id, label) in [("01", "a"), ("02", "b"), ("03", "c"), ("04", "d")] {
        generate(&place.token, "EC:prime256v1", id, label);
    }
    place.token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "04"]);
    assert_eq!(place.told(&["--destroy", "--yes", "01"]), "destroyed 01_priv\ndestroyed 01_pub\n");
    assert_eq!(place.told(&["--destroy", "--yes", "02_pub"]), "destroyed 02_pub\n");
    if place.tells_public_key_of("02") {
        return;
    }
    assert_eq!(place.told(&["--destroy", "--yes", "--orphans"]), "destroyed 02_priv\ndestroyed 04_pub\n");
    assert_eq!(place.told(&["--destroy", "--yes", "--orphans"]), "nothing is to be destroyed\n");
    let left: Vec<_> = place.token.objects();
    assert!(left.len() == 2 && left.iter().all(|object| object.contains("label:      c")), "{left:?}");
}

#[test]
fn destroys_nothing_where_one_thing_is_not_clear() {
    let place = Place::new();
    generate(&place.token, place.token.any_kind(), "01", "a");
    for label in ["one", "two"] {
        generate(&place.token, place.token.any_kind(), "0c", label);
    }
    for (args, why) in [
        (&["--destroy", "--yes", "01", "99"][..], "there is no key 99 on the token\n"),
        (
            &["--destroy", "--yes", "01", "0c"],
            "0C: 2 private key objects have this CKA_ID, and none is guessed\nhint: ",
        ),
        (&["--destroy", "01"], "there is no terminal to ask at: "),
        (&["--destroy", "--yes"], "cascade-hsm-bridge: --destroy needs to be told what"),
        (&["--yes"], "cascade-hsm-bridge: --yes is for --destroy only"),
        (&["nothing"], "cascade-hsm-bridge: \"nothing\" is no identifier of a key"),
    ] {
        let (code, said, complaint) = without_terminal(&place, args);
        assert!(code != Some(0) && said.is_empty() && complaint.contains(why), "{args:?}: {code:?} {said}{complaint}");
    }
    assert_eq!(place.token.objects().len(), 6);
}

/// A test that is run at a terminal has one; setsid(1) takes it away.
fn without_terminal(place: &Place, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = place.command("setsid");
    command.arg("-w").arg(support::program()).args(["keys", "-c"]).arg(place.path("config.toml"));
    command.arg("--pin-file").arg(place.path("pin")).args(args);
    let Output { status, stdout, stderr } = command.output().expect("setsid (make deps)");
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn asks_at_the_terminal_before_it_destroys() {
    let place = Place::new();
    generate(&place.token, place.token.any_kind(), "01", "precious");
    let args = format!("--pin-file {} --destroy 01", place.path("pin").display());
    for typed in ["\n", "no\n", "y\n", "Yes\n"] {
        let (code, said) = place.at_a_terminal(&args, QUESTION, typed);
        let shown = "  01_priv \"precious\"\r\n  01_pub \"precious\"\r\nThese keys on the token 'signer 5117' cannot be brought back.";
        assert!(said.contains(shown) && said.contains("nothing is destroyed"), "{said}");
        assert_eq!((code, place.token.objects().len()), (Some(1), 2), "{typed:?}");
    }
    let (code, said) = place.at_a_terminal(&args, QUESTION, "yes\n");
    assert!(said.contains("destroyed 01_priv\r\ndestroyed 01_pub\r\n"), "{said}");
    assert_eq!((code, place.token.objects().len()), (Some(0), 0));
}

#[test]
fn asks_for_the_pin_at_the_terminal_and_does_not_show_it() {
    let place = Place::new();
    let (code, said) = place.at_a_terminal("", PROMPT, &format!("{}\n", place.token.pin));
    assert!(said.contains("no such keys") && !said.contains(&place.token.pin), "{said}");
    assert_eq!(code, Some(0));
    let (code, said) = place.at_a_terminal("", PROMPT, "pin-0000\n");
    assert!(said.contains("wrong PIN"), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn takes_the_pin_that_the_configuration_keeps_and_the_token_that_is_meant() {
    let place = Place::new();
    place.token.add("other", "pin-2846");
    let (code, _, complaint) = place.keys(&[]);
    let names = complaint.split_once("\nhint: there are ").expect(&complaint).1;
    assert!(names.contains("'signer 5117'") && names.contains("'other'"), "{complaint}");
    assert_eq!(code, Some(1));
    let kept = place.secret("kept", "pin-2846\n");
    place.configure(&format!("[[token]]\nname = \"other\"\npin-file = {kept:?}"));
    let mut command = place.command(support::program());
    command.args(["keys", "--token", "other", "-c"]).arg(place.path("config.toml"));
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("token 'other', "), "{output:?}");
    let (code, _, complaint) = place.keys(&["--token", "other"]);
    assert!(complaint.contains("wrong PIN"), "{complaint}");
    assert_eq!(code, Some(1));
}

#[test]
fn says_of_both_halves_that_they_are_destroyed_where_one_goes_with_the_other() {
    let Some((place, _faulty, name)) = Place::of(&Profile::named("nethsm-2-pin")) else { return };
    for id in ["01", "02"] {
        generate(&place.token, "EC:prime256v1", id, id);
    }
    let destroy = |id: &str| place.told(&["--token", &name, "--destroy", "--yes", id]);
    assert_eq!(destroy("01"), "destroyed 01_priv\ndestroyed 01_pub\n");
    assert_eq!(destroy("02_priv"), "destroyed 02_priv\n");
    assert_eq!(place.token.objects(), Vec::<String>::new());
}

#[test]
fn asks_for_no_pin_where_the_configuration_says_that_there_is_none() {
    let Some((place, faulty, _)) = Place::of(&Profile::named("fortanix")) else { return };
    generate(&place.token, "EC:prime256v1", "01", "theirs");
    let (code, said, complaint) = place.keys_without_pin(&["--token", "dsm"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("token 'dsm', ") && said.contains("01_priv, Active, \"theirs\", Sign"), "{said}");
    assert_eq!(faulty.count("C_Login"), 0);
}

#[test]
fn has_the_pin_typed_at_a_token_that_has_keys_for_it() {
    let faulty = Faulty::new();
    let tables = "[[token]]\nname = \"signer 5117\"\nlogin = \"protected-path\"";
    let Some(place) = Place::on(&faulty, tables) else { return };
    let pad = "set-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]";
    faulty.play(&format!("[token]\nown-pin = {:?}\n{pad}\n", place.token.pin));
    generate(&place.token, "EC:prime256v1", "01", "padded");
    let (code, said, complaint) = place.keys_without_pin(&[]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(said.contains("01_priv, Active, \"padded\", Sign"), "{said}");
    assert_eq!(faulty.count("C_Login"), 1);
}

#[test]
fn a_token_that_does_not_describe_itself_is_named_by_its_slot() {
    let faulty = Faulty::new();
    let Some(place) = Place::on(&faulty, "") else { return };
    // As openCryptoki's, and the module's list of functions cannot be read either.
    let odd = "utc-time = \"18:12:20\"\nset-flags = [\"CKF_CLOCK_ON_TOKEN\"]";
    faulty.play(&format!("[module]\nlist-per-call = true\n[token]\n{odd}\n"));
    generate(&place.token, "EC:prime256v1", "01", "somewhere");
    let slot = place.token.slot().to_string();
    let (code, said, complaint) = place.keys(&["--token", &slot]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(said.starts_with(&format!("token in slot {slot}")), "{said}");
    assert!(said.contains("01_priv, Active, \"somewhere\", Sign"), "{said}");
    let (code, said, complaint) = place.keys(&[]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(complaint.contains("there is no initialised token"), "{complaint}");
}

#[test]
fn a_module_that_hangs_at_the_start_is_not_waited_for_without_end() {
    for (function, named) in
        [("C_Initialize", "C_Initialize, or loading it,"), ("C_GetTokenInfo", "C_GetSlotList or C_GetTokenInfo")]
    {
        let faulty = Faulty::new();
        let Some(place) = Place::on(&faulty, "call-timeout = 1\n") else { return };
        faulty.play(&format!("[[fault]]\nfunction = {function:?}\nhang = true\n"));
        let (code, said, complaint) = place.keys(&[]);
        assert_eq!((code, said.as_str()), (Some(1), ""), "{complaint}");
        let wanted = format!("{named} has not returned after 3 s, the start is given up\nhint: ");
        assert!(complaint.contains(&wanted), "{complaint}");
    }
}

/// A module that cannot be loaded is told of by its path.
#[test]
fn says_what_keeps_it_from_the_token() {
    let place = Place::new();
    place.directory.file("config.toml", "version = \"v1\"\n[pkcs11]\nlib-path = \"/nonexistent/m.so\"\n");
    let (code, said, complaint) = place.keys(&[]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(complaint.contains("/nonexistent/m.so"), "{complaint}");
    assert!(!Path::new("/nonexistent").exists());
}
