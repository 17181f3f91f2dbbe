//! Keys that were on the token before: of the incumbent, OpenDNSSEC, BIND, Knot, and objects that nobody can make sense of.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use support::bridge::Options;
use support::hsm::{skipped, skipped_in_part};
use support::key::{ecdsa_sha_256, parameters, public_key, rsa_sha_256, sign_item, unique_identifier};
use support::message::{Item, attribute, name_attribute};
use support::openssl::{PublicKey, Scheme};
use support::scratch::Scratch;
use support::tags::{self, algorithm, link, object_type, operation, reason, state};
use support::ttlv::{Node, Value, enumeration, text};
use support::{Bridge, Client, Hsm, KeySpec, Token, others};

const SHA_256: Scheme = Scheme::Digest("-sha256");

#[test]
fn makes_keys_where_it_is_told_to() {
    others::maker();
}

fn get(client: &mut Client, id: &str) -> PublicKey {
    let payload = client.ok(operation::GET, vec![unique_identifier(id)]);
    public_key(payload.at(&[tags::PUBLIC_KEY, tags::KEY_BLOCK]))
}

fn rsa_or_ecdsa(is_rsa: bool) -> Node {
    if is_rsa { rsa_sha_256() } else { ecdsa_sha_256() }
}

/// An elliptic key pair whose public key the token has lost, and cannot derive from the private one; the key itself, which the client
/// of another bridge has got before.
fn lost_public_key(token: &Token, id: &str, kind: &str) -> PublicKey {
    token.pkcs11_tool(&["--keypairgen", "--key-type", kind, "--id", id, "--usage-sign"]);
    let before = Bridge::start(token);
    let key = public_key(&Client::connect(&before, token).get_public(&format!("{}_pub", id.to_uppercase()), None));
    drop(before);
    token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", id]);
    key
}

/// Whether a token still tells a public key of which it has no object, which then is why a test is left out.
fn tells(client: &mut Client, public: &str) -> bool {
    let answer = client.call(Item::new(operation::GET, vec![unique_identifier(public)]));
    let hsm = Hsm::chosen();
    skipped(answer.status == 0 && hsm != Hsm::SoftHsm2, format!("{hsm}: private keys tell their public ones"))
}

/// The record that BIND and dnst write for a key: of a curve the point, without what comes before it in a SubjectPublicKeyInfo.
fn dnskey(key: &PublicKey, algorithm: u8, point: usize) -> String {
    let info = key.subject_public_key_info();
    let directory = Scratch::new("dnskey");
    let file = directory.file("point", &info[info.len() - point..]);
    let output = Command::new("openssl").args(["base64", "-A", "-in"]).arg(file).output().unwrap();
    let base64 = String::from_utf8(output.stdout).unwrap();
    format!("; This is a zone-signing key\nexample.net. IN DNSKEY 256 3 {algorithm} {base64}\n")
}

fn with_public_keys(token: &Token, directory: &Path) -> Bridge {
    Bridge::start_with(token, Options { pkcs11: format!("public-keys = {directory:?}"), ..Options::default() })
}

#[test]
fn keys_of_the_incumbent_are_used_renamed_and_destroyed() {
    let token = Token::create();
    for (id, is_rsa) in
        [("0123456789abcdef0123456789abcdef01234567", true), ("fedcba9876543210fedcba9876543210fedcba98", false)]
    {
        if skipped_in_part(!is_rsa && !token.makes(&KeySpec::ecdsa(256)), "the token does not list P-256") {
            continue;
        }
        if others::cannot_make(&token, if is_rsa { "incumbent rsa" } else { "incumbent p256" }, id) {
            return;
        }
        let bridge = Bridge::start(&token);
        let mut client = Client::connect(&bridge, &token);
        let (public, private) = (format!("{}_pub", id.to_uppercase()), format!("{}_priv", id.to_uppercase()));
        let key = public_key(&client.get_public(&public, None));
        let signature = client.sign(&private, rsa_or_ecdsa(is_rsa), b"data");
        assert!(key.verifies(SHA_256, b"data", &signature));
        assert_eq!(client.attribute(&private, "State"), Value::Enumeration(state::ACTIVE));
        assert_eq!(client.name_of(&public), "example.org-12345-zsk-pub");
        for (id, name) in [(&public, "other-pub"), (&private, "other-pri")] {
            client.call(Client::rename_item(id, name)).payload();
            assert_eq!(client.name_of(id), name);
        }
        client.on_object(operation::DESTROY, &private);
        client.on_object(operation::DESTROY, &public);
        assert_eq!(token.objects(), Vec::<String>::new());
    }
}

#[test]
fn keys_of_opendnssec_are_whole_though_their_public_key_is_gone() {
    let token = Token::create();
    let id = "00112233445566778899aabbccddeeff";
    if others::cannot_make(&token, "opendnssec", id) {
        return;
    }
    assert_eq!(token.objects().len(), 1);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let (public, private) = (format!("{}_pub", id.to_uppercase()), format!("{}_priv", id.to_uppercase()));
    let key = public_key(&client.get_public(&public, None));
    assert!(key.verifies(SHA_256, b"data", &client.sign(&private, rsa_sha_256(), b"data")));

    // What Get answers, Locate finds; only a name it has none.
    let mut found = client.locate(vec![]);
    found.sort();
    assert_eq!(found, [private.clone(), public.clone()]);
    let public_keys = || vec![attribute("Object Type", Value::Enumeration(object_type::PUBLIC_KEY))];
    assert_eq!(client.locate(public_keys()), [public.as_str()]);
    assert_eq!(client.locate(vec![name_attribute(id)]), [private.as_str()]);
    let linked = vec![enumeration(tags::LINK_TYPE, link::PUBLIC_KEY), text(tags::LINKED_OBJECT_IDENTIFIER, &public)];
    assert_eq!(client.attribute(&private, "Link"), Value::Structure(linked));

    client.call(Client::rename_item(&private, "example.org-1-ksk-pri")).payload();
    assert_eq!(client.name_of(&private), "example.org-1-ksk-pri");
    client.on_object(operation::DESTROY, &private);
    client.on_object(operation::DESTROY, &public);
    assert_eq!(token.objects(), Vec::<String>::new());
}

#[test]
fn keys_that_were_made_without_a_cka_id_are_served_once_they_have_one() {
    let token = Token::create();
    // As the manual of BIND has it.
    token.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "example.net-ksk"]);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    assert_eq!(client.locate(vec![]), Vec::<String>::new());
    let why = "a private key 'example.net-ksk' on token 'signer 5117' is left out: it has no CKA_ID";
    assert!(bridge.log().contains(why), "{}", bridge.log());
    if skipped(others::sees_nothing_new(&token), "the module sees nothing that another process makes") {
        return;
    }
    for half in ["privkey", "pubkey"] {
        token.pkcs11_tool(&["--set-id", "2001", "--label", "example.net-ksk", "--type", half]);
    }
    let key = public_key(&client.get_public("2001_pub", None));
    assert!(key.verifies(SHA_256, b"data", &client.sign("2001_priv", rsa_sha_256(), b"data")));
}

#[test]
fn keys_without_a_label_are_served_like_others() {
    let token = Token::create();
    let id = "A8E05DC3065F08B30E948CC1AC433CA58C647D9E";
    // As Knot makes them.
    token.pkcs11_tool(&["--keypairgen", "--key-type", token.any_kind(), "--id", id]);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let (public, private) = (format!("{id}_pub"), format!("{id}_priv"));
    let key = public_key(&client.get_public(&public, None));
    assert!(key.verifies(SHA_256, b"data", &client.sign(&private, token.sign_parameters(), b"data")));
    assert_eq!(client.attributes(&public, &["Name"]), []);
    client.call(Client::rename_item(&public, "named now")).payload();
    assert_eq!(client.name_of(&public), "named now");
}

#[test]
fn a_bare_identifier_means_the_half_that_each_operation_needs() {
    let token = Token::create();
    token.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "foreign", "--id", "0a0b"]);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let answered = |payload: &Node| payload.child(tags::UNIQUE_IDENTIFIER).as_text().to_string();
    let key = get(&mut client, "0A0B");
    let answer = client.call(sign_item("0a0b", rsa_sha_256(), b"data"));
    assert!(key.verifies(SHA_256, b"data", answer.payload().child(tags::SIGNATURE_DATA).as_bytes()));
    assert_eq!(answered(answer.payload()), "0A0B_priv");
    let bare = || vec![unique_identifier("0a0b")];
    assert_eq!(answered(&client.ok(operation::GET_ATTRIBUTES, bare())), "0A0B_pub");
    assert_eq!(answered(&client.ok(operation::ACTIVATE, bare())), "0A0B_priv");
    client.call(Client::rename_item("0a0b", "renamed")).payload();
    assert_eq!(client.name_of("0A0B_pub"), "renamed");
    assert_eq!(client.name_of("0A0B_priv"), "foreign");

    // Where there is no public key object, the private one is what has a name.
    drop(bridge);
    let made = others::make(&token, "opendnssec", "0c0d");
    if skipped_in_part(made.is_err(), "the module does not make keys of OpenDNSSEC") {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    client.call(Client::rename_item("0c0d", "again")).payload();
    assert_eq!(client.name_of("0C0D_priv"), "again");
    get(&mut client, "0C0D");
}

#[test]
fn destroying_a_bare_identifier_leaves_nothing_of_the_pair() {
    let token = Token::create();
    for has_public in [true, false] {
        token.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "foreign", "--id", "0a0b"]);
        if !has_public {
            token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "0a0b"]);
        }
        let bridge = Bridge::start(&token);
        let mut client = Client::connect(&bridge, &token);
        // A client that has one identifier for both halves destroys it twice.
        client.on_object(operation::DESTROY, "0A0B");
        assert_eq!(token.objects(), Vec::<String>::new());
        client.on_object(operation::DESTROY, "0A0B");
        let third = Item::new(operation::DESTROY, vec![unique_identifier("0A0B")]);
        client.call(third).is_refused(reason::ITEM_NOT_FOUND);
    }
}

#[test]
fn destroying_a_bare_identifier_that_two_keys_share_destroys_nothing() {
    let token = Token::create();
    for label in ["one", "two"] {
        token.pkcs11_tool(&["--keypairgen", "--key-type", token.any_kind(), "--label", label, "--id", "0c"]);
    }
    token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--label", "two"]);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    // The private key is unique and signs; which public key is its own is not guessed.
    client.sign("0C_priv", token.sign_parameters(), b"data");
    for item in [
        Item::new(operation::DESTROY, vec![unique_identifier("0c")]),
        Item::new(operation::GET, vec![unique_identifier("0C_pub")]),
    ] {
        let answer = client.call(item);
        assert_eq!(answer.status, 1, "{answer:?}");
        let why = answer.message.as_deref().unwrap_or_default();
        assert!(why.contains("several public key objects on the token have this CKA_ID"), "{why}");
    }
    assert_eq!(token.objects().len(), 3);
    assert_eq!(client.locate(vec![]), ["0C_priv"]);
}

#[test]
fn a_public_key_that_only_a_file_has_is_found_by_a_signature() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(384)) {
        return;
    }
    let files = Scratch::new("files");
    let kinds = [("01", "EC:prime256v1", 13, 64), ("02", "EC:secp384r1", 14, 96), ("03", "EC:edwards25519", 15, 32)];
    let kinds: Vec<_> = kinds.into_iter().filter(|kind| kind.2 != 15 || token.offers("EDDSA", "sign")).collect();
    let mut keys = Vec::new();
    for &(id, kind, algorithm, point) in &kinds {
        let key = lost_public_key(&token, id, kind);
        files.file(&format!("Kexample.net.+0{algorithm}+{id}.key"), dnskey(&key, algorithm, point));
        // Of the same kind, but of another key; tried first.
        let other = lost_public_key(&token, &format!("ff{id}"), kind);
        files.file(&format!("A{id}.key"), dnskey(&other, algorithm, point));
        keys.push((format!("{id}_pub"), format!("{id}_priv"), key));
    }
    let without = Bridge::start(&token);
    let mut client = Client::connect(&without, &token);
    if tells(&mut client, "01_pub") {
        return;
    }
    let ask = |id: &str| Item::new(operation::GET, vec![unique_identifier(id)]);
    for (public, private, _) in &keys {
        client.call(ask(public)).is_refused(reason::ITEM_NOT_FOUND);
        assert_eq!(client.attributes(private, &["Link"]), []);
    }
    drop(without);

    let bridge = with_public_keys(&token, files.path());
    let mut client = Client::connect(&bridge, &token);
    for (public, private, key) in &keys {
        let found = public_key(&client.get_public(public, None));
        assert_eq!(found.description(), key.description());
        let (scheme, asked) = match private.as_str() {
            "01_priv" => (SHA_256, ecdsa_sha_256()),
            "02_priv" => {
                (Scheme::Digest("-sha384"), parameters(None, Some(tags::hash::SHA_384), Some(algorithm::ECDSA)))
            }
            _ => (Scheme::Edwards, parameters(None, None, Some(algorithm::ED25519))),
        };
        assert!(found.verifies(scheme, b"data", &client.sign(private, asked, b"data")));
        assert_eq!(client.attributes(private, &["Link"]).len(), 1);
        assert!(client.locate(vec![]).contains(public));
        client.on_object(operation::DESTROY, private);
        client.on_object(operation::DESTROY, public);
    }
    let log = bridge.log();
    let proved =
        log.lines().find(|line| line.contains(") is the public key of 01_priv, as a signature proves")).unwrap();
    assert!(proved.contains("Kexample.net.+013+01.key (example.net., flags 256, algorithm 13, key tag "), "{proved}");
}

#[test]
fn a_public_key_file_is_not_taken_at_its_word() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(384)) {
        return;
    }
    let files = Scratch::new("files");
    lost_public_key(&token, "0a", "EC:prime256v1");
    if tells(&mut Client::connect(&Bridge::start(&token), &token), "0A_pub") {
        return;
    }
    let other = lost_public_key(&token, "0b", "EC:prime256v1");
    let pem = |key: &PublicKey, name: &str| {
        let der = files.file("der", key.subject_public_key_info());
        let path = files.path().join(name);
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-pubin", "-inform", "DER", "-in"]).arg(der).arg("-out").arg(&path);
        assert!(openssl.output().unwrap().status.success());
    };
    // Named after one key, but the other's.
    pem(&other, "0A.pem");
    files.file("rubbish.key", "example.net. IN DNSKEY 257 3 13 rub*ish=\n");
    let bridge = with_public_keys(&token, files.path());
    let rubbish = bridge.log().contains("rubbish.key: line 1: the key is not base64");
    assert!(
        rubbish && bridge.log().contains(&format!("public keys in {}: 1", files.path().display())),
        "{}",
        bridge.log()
    );
    let mut client = Client::connect(&bridge, &token);
    let ask = |id: &str| Item::new(operation::GET, vec![unique_identifier(id)]);
    // A file that was tried is not tried again.
    for _ in 0..2 {
        client.call(ask("0A_pub")).is_refused(reason::ITEM_NOT_FOUND);
        client.locate(vec![]);
    }
    let refusal = "is named after 0A_priv, but its key does not verify what that signs";
    assert_eq!(bridge.log().matches(refusal).count(), 1, "{}", bridge.log());
    // A file that is named after one key is for no other.
    client.call(ask("0B_pub")).is_refused(reason::ITEM_NOT_FOUND);
    pem(&other, "anything.pem");
    bridge.signal("HUP");
    while !bridge.log().contains("HUP: done") {
        std::thread::yield_now();
    }
    client.get_public("0B_pub", None);
}

#[test]
fn odd_objects_break_no_listing() {
    let token = Token::create();
    if others::cannot_make(&token, "odd", "aa") {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let of = |client: &mut Client, criteria| {
        let mut found = client.locate(criteria);
        found.sort();
        found
    };
    let all = ["AA01_priv", "AA01_pub", "AA02_priv", "AA02_pub", "AA04_pub"];
    assert_eq!(of(&mut client, vec![]), all);
    assert_eq!(of(&mut client, vec![]), all);
    // Both halves, once each.
    let nameless = "'nameless' on token 'signer 5117' is left out: it has no CKA_ID";
    assert_eq!(bridge.log().matches(nameless).count(), 2, "{}", bridge.log());
    let ecdsa = || vec![attribute("Cryptographic Algorithm", Value::Enumeration(algorithm::ECDSA))];
    assert_eq!(of(&mut client, ecdsa()), ["AA02_priv", "AA02_pub"]);
    for id in all {
        assert_eq!(client.attribute(id, "Unique Identifier"), Value::TextString(id.to_string()));
    }
    assert_eq!(client.name_of("AA02_pub"), "\u{fffd}\u{fffd}\u{fffd}");
    // What is not served is refused by name.
    for (item, why) in [
        (sign_item("AA01_priv", ecdsa_sha_256(), b"data"), "keys of this kind do not sign here"),
        (Item::new(operation::GET, vec![unique_identifier("AA01_pub")]), "keys of this kind are not served"),
        (Item::new(operation::GET, vec![unique_identifier("AA04_pub")]), "keys of this kind are not served"),
    ] {
        let answer = client.call(item);
        assert_eq!((answer.status, answer.message.as_deref()), (1, Some(why)));
    }
    let key = get(&mut client, "AA02_pub");
    assert!(key.verifies(SHA_256, b"data", &client.sign("AA02_priv", ecdsa_sha_256(), b"data")));
}

/// What a tool of another signer prints, none where this machine does not have it.
fn tool(token: &Token, command: &[&str]) -> Option<String> {
    let [program, args @ ..] = command else { panic!("a program") };
    // Where Debian has what is root's, out of the way of others.
    let place = Path::new("/usr/sbin").join(program);
    let program = if place.exists() { place.to_str().unwrap() } else { program };
    match token.command(program).args(args).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {said}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(why) if why.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no {program} on this machine");
            None
        }
        Err(why) => panic!("{program}: {why}"),
    }
}

/// Holds that the key that a DNSKEY record has is what the bridge answers and signs with.
fn is_served(client: &mut Client, id: &str, point: Option<usize>, record: &str) {
    let id = id.to_uppercase();
    let key = public_key(&client.get_public(&format!("{id}_pub"), None));
    let asked = rsa_or_ecdsa(point.is_none());
    assert!(key.verifies(SHA_256, b"data", &client.sign(&format!("{id}_priv"), asked, b"data")));
    // Of RSA the whole numbers are in the record; that it is this key, its last bytes tell as well.
    let info = key.subject_public_key_info();
    let tail = match point {
        Some(len) => info[info.len() - len..].to_vec(),
        // Before the exponent, 02 03 01 00 01.
        None => info[info.len() - 5 - 240..info.len() - 5].to_vec(),
    };
    let directory = Scratch::new("record");
    let base64: String = record.split_whitespace().skip_while(|word| *word != "DNSKEY").skip(4).take(1).collect();
    let file = directory.file("base64", base64 + "\n");
    let decoded = Command::new("openssl").args(["base64", "-d", "-A", "-in"]).arg(file).output().unwrap().stdout;
    assert!(decoded.ends_with(&tail), "{record}");
}

#[test]
fn keys_that_opendnssec_itself_has_made_are_served() {
    let token = Token::create();
    if others::cannot_make(&token, "opendnssec", "ff") {
        return;
    }
    token.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "ff"]);
    let directory = Scratch::new("opendnssec");
    let module = Token::module();
    let conf = directory.file(
        "conf.xml",
        format!(
            "<Configuration><RepositoryList><Repository name=\"hsm\"><Module>{}</Module><TokenLabel>{}</TokenLabel>\
             <PIN>{}</PIN><SkipPublicKey/></Repository></RepositoryList></Configuration>",
            module.display(),
            token.label,
            token.pin
        ),
    );
    let conf = conf.to_str().unwrap();
    let Some(_) = tool(&token, &["ods-hsmutil", "-c", conf, "generate", "hsm", "rsa", "2048"]) else { return };
    let has_curve = !skipped_in_part(!token.makes(&KeySpec::ecdsa(256)), "the token does not list P-256");
    if has_curve {
        tool(&token, &["ods-hsmutil", "-c", conf, "generate", "hsm", "ecdsa", "256"]);
    }
    let listing = tool(&token, &["ods-hsmutil", "-c", conf, "list", "hsm"]).unwrap();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let mut seen = 0;
    for line in listing.lines().filter(|line| line.starts_with("hsm ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (id, point, algorithm) = match words[2] {
            "RSA/2048" => (words[1], None, "8"),
            "ECDSA/256" => (words[1], Some(64), "13"),
            other => panic!("{other}"),
        };
        let record = tool(&token, &["ods-hsmutil", "-c", conf, "dnskey", id, "example.org", "256", algorithm]).unwrap();
        is_served(&mut client, id, point, &record);
        seen += 1;
    }
    assert_eq!(seen, 1 + usize::from(has_curve), "{listing}");
}

#[test]
fn keys_that_knot_itself_has_made_are_served() {
    let token = Token::create();
    let directory = Scratch::new("knot");
    let (module, label) = (Token::module(), token.label.replace(' ', "%20"));
    let conf = directory.file(
        "knot.conf",
        format!(
            "database:\n  storage: {}\nkeystore:\n  - id: hsm\n    backend: pkcs11\n    \
             config: \"pkcs11:token={label};pin-value={} {}\"\npolicy:\n  - id: p\n    keystore: hsm\n    manual: on\nzone:\n  \
             - domain: example.org\n    dnssec-signing: on\n    dnssec-policy: p\n",
            directory.path().display(),
            token.pin,
            module.display()
        ),
    );
    let keymgr =
        |args: &[&str]| tool(&token, &[&["keymgr", "-c", conf.to_str().unwrap(), "example.org"], args].concat());
    for (algorithm, size, point) in [("ECDSAP256SHA256", "256", Some(64)), ("RSASHA256", "2048", None)] {
        if skipped_in_part(point.is_some() && !token.makes(&KeySpec::ecdsa(256)), "the token does not list P-256") {
            continue;
        }
        let size = format!("size={size}");
        let Some(said) = keymgr(&["generate", &format!("algorithm={algorithm}"), &size, "zsk=yes"]) else { return };
        let id = said.lines().last().unwrap_or_default().trim().to_owned();
        let bridge = Bridge::start(&token);
        is_served(&mut Client::connect(&bridge, &token), &id, point, &keymgr(&["dnskey", &id]).unwrap());
    }
}
