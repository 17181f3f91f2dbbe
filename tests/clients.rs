//! Clients that do not know a PIN: they prove themselves by a password of the bridge's own or a certificate, and may do what they
//! were given rights to.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::bridge::Options;
use support::ca::Ca;
use support::message::Item;
use support::scratch::Scratch;
use support::tags::{self, operation, query, reason};
use support::ttlv::enumeration;
use support::{Bridge, Client, KeySpec, Token};

const PASSWORD: &str = "password-2290-of-the-signer";

/// A file that only its owner can read.
fn private_file(directory: &Scratch, name: &str, content: &str) -> PathBuf {
    let path = directory.file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The token with its PIN kept by the bridge, and more tables.
fn kept(token: &Token, directory: &Scratch, more: &str) -> Options {
    let pin = private_file(directory, "pin", &format!("{}\n", token.pin));
    let tables = format!("[[token]]\nname = {:?}\npin-file = {pin:?}\n{more}", token.label);
    Options { tables, ..Options::default() }
}

/// A client with a password.
fn signer(token: &Token, directory: &Scratch, rights: &str) -> String {
    let password = private_file(directory, "password", PASSWORD);
    format!("[[client]]\nusername = \"signer\"\npassword-file = {password:?}\ntoken = {:?}\n{rights}\n", token.label)
}

fn locate() -> Item {
    Item::new(operation::LOCATE, vec![])
}

fn located(client: &mut Client) -> usize {
    client.call(locate()).payload().children().iter().filter(|item| item.tag == tags::UNIQUE_IDENTIFIER).count()
}

#[test]
fn a_client_proves_itself_by_a_password_while_the_bridge_keeps_the_pin() {
    let (token, directory) = (Token::create(), Scratch::new("clients"));
    let bridge = Bridge::start_with(&token, kept(&token, &directory, &signer(&token, &directory, "")));
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    let pair = client.create_key_pair(&KeySpec::any(&token));
    client.sign(&pair.private, token.sign_parameters(), b"data");
    client.call(Client::rename_item(&pair.private, "renamed")).payload();
    client.revoke(&pair.private);
    client.on_object(operation::DESTROY, &pair.private);
    client.on_object(operation::DESTROY, &pair.public);
    let address = client.socket().local_addr().unwrap();
    for (username, password) in [("signer", "wrong"), ("signer", ""), ("other", PASSWORD), ("signer", &token.pin)] {
        client.login = Some((username.to_string(), password.to_string()));
        client.call(locate()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    }
    // Who knows the PIN gets in as ever.
    Client::connect(&bridge, &token).call(locate()).payload();
    let cmdline = fs::read(format!("/proc/{}/cmdline", bridge.pid())).unwrap();
    let (_, log) = bridge.stop();
    for done in [
        format!("made key pair {}, {}", pair.private, pair.public),
        format!("renamed {}", pair.private),
        format!("revoked {} (", pair.private),
        format!("destroyed {}", pair.private),
        format!("destroyed {}", pair.public),
    ] {
        let line = log.lines().find(|line| line.contains(&done)).unwrap_or_else(|| panic!("{done} is not in {log}"));
        let who = format!("audit: {address} (user 'signer'): {done}");
        assert!(line.contains(&who) && line.ends_with(&format!("on token '{}'", token.label)), "{line}");
    }
    for secret in [PASSWORD, &token.pin] {
        assert!(!log.contains(secret) && !String::from_utf8_lossy(&cmdline).contains(secret));
    }
}

#[test]
fn a_client_does_what_it_has_rights_to_with_the_keys_that_are_its_own() {
    let (token, directory) = (Token::create(), Scratch::new("clients"));
    let rights = "key-prefix = \"zone-\"\noperations = [\"create-key-pair\", \"locate\", \"sign\", \"get\", \"modify-attribute\"]";
    let bridge = Bridge::start_with(&token, kept(&token, &directory, &signer(&token, &directory, rights)));
    let mut owner = Client::connect(&bridge, &token);
    let other = owner.create_key_pair(&KeySpec::any(&token).named("other"));
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    let address = client.socket().local_addr().unwrap();

    client.call(KeySpec::any(&token).named("other-2").item()).is_refused(reason::PERMISSION_DENIED);
    client.call(KeySpec::any(&token).item()).is_refused(reason::PERMISSION_DENIED);
    let own = client.create_key_pair(&KeySpec::any(&token).named("zone-1"));
    client.sign(&own.private, token.sign_parameters(), b"data");
    assert_eq!((located(&mut client), located(&mut owner)), (2, 4));

    let sign = support::key::sign_item(&other.private, token.sign_parameters(), b"data");
    client.call(sign).is_refused(reason::ITEM_NOT_FOUND);
    client
        .call(Item::new(operation::GET, vec![support::key::unique_identifier(&other.public)]))
        .is_refused(reason::ITEM_NOT_FOUND);
    client.call(Client::rename_item(&own.private, "stolen")).is_refused(reason::PERMISSION_DENIED);
    client.call(Client::rename_item(&other.private, "zone-2")).is_refused(reason::ITEM_NOT_FOUND);
    client.call(Client::rename_item(&own.private, "zone-2")).payload();
    client
        .call(Item::new(operation::DESTROY, vec![support::key::unique_identifier(&own.private)]))
        .is_refused(reason::PERMISSION_DENIED);
    client
        .call(Item::new(operation::RNG_RETRIEVE, vec![support::ttlv::integer(tags::DATA_LENGTH, 8)]))
        .is_refused(reason::PERMISSION_DENIED);
    assert_eq!(located(&mut owner), 4);

    let answer = client.ok(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, query::OPERATIONS)]);
    let offered: Vec<u32> = answer.children().iter().map(|item| item.as_enumeration()).collect();
    assert!(offered.contains(&operation::SIGN) && !offered.contains(&operation::DESTROY), "{offered:x?}");
    let (_, log) = bridge.stop();
    let audit: Vec<_> = log.lines().filter(|line| line.contains("audit: ")).collect();
    assert!(audit.iter().any(|line| line.contains("(user 'signer'): renamed ")), "{audit:?}");
    // What was refused is told with who wanted it and of which key, by the name that was asked for where there is none.
    for refused in [
        format!("Destroy of {} failed: Permission Denied: ", own.private),
        format!("Modify Attribute of {} failed: Permission Denied: ", own.private),
        format!("Modify Attribute of {} failed: Item Not Found: ", other.private),
        "Create Key Pair named 'other-2-pri' failed: Permission Denied: ".to_string(),
    ] {
        let whole = format!("audit: {address} (user 'signer'): {refused}");
        let on = format!(" on token '{}'", token.label);
        assert!(audit.iter().any(|line| line.contains(&whole) && line.ends_with(&on)), "{whole}: {audit:?}");
    }
}

#[test]
fn what_a_client_names_is_told_in_the_log_and_passes_for_nothing_else() {
    let (token, directory) = (Token::create(), Scratch::new("clients"));
    let rights = "operations = [\"create-key-pair\"]";
    let bridge = Bridge::start_with(&token, kept(&token, &directory, &signer(&token, &directory, rights)));
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    let forged = "x\n2026-01-31T12:00:00Z INFO  audit: 192.0.2.1:1: destroyed 00_priv on token 'y'";
    let destroy = |id: &str| Item::new(operation::DESTROY, vec![support::key::unique_identifier(id)]);
    client.call(destroy(forged)).is_refused(reason::PERMISSION_DENIED);
    let mut spec = KeySpec::any(&token);
    spec.private_name = forged.to_string();
    spec.length = Some(17);
    client.call(spec.item()).is_refused(reason::INVALID_FIELD);
    // Named by what an earlier item of the batch has left.
    let placeholder = Item::new(operation::DESTROY, vec![]).with_id(b"2");
    let response = client.ask(&client.request(vec![KeySpec::any(&token).item().with_id(b"1"), placeholder]));
    let made = response.answers[0].payload().child(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER).as_text().to_string();
    response.answers[1].is_refused(reason::PERMISSION_DENIED);
    let (_, log) = bridge.stop();
    let audit: Vec<_> = log.lines().filter(|line| line.contains("audit: ")).collect();
    assert_eq!(audit.len(), 4, "{audit:?}");
    let escaped = "'x\\n2026-01-31T12:00:00Z INFO  audit: 192.0.2.1:1: destroyed 00_pr'";
    assert!(audit[0].contains(&format!("Destroy of {escaped} failed: Permission Denied")), "{audit:?}");
    assert!(audit[1].contains(&format!("Create Key Pair named {escaped} failed: Invalid Field")), "{audit:?}");
    assert!(audit[3].contains(&format!("Destroy of {made} failed: Permission Denied")), "{audit:?}");
}

/// Whatever a key is called by: one half, the other, or the pair.
#[test]
fn a_client_destroys_and_changes_no_key_of_another() {
    let (token, directory) = (Token::create(), Scratch::new("clients"));
    let options = kept(&token, &directory, &signer(&token, &directory, "key-prefix = \"zone-\""));
    let bridge = Bridge::start_with(&token, options);
    let other = Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token).named("other"));
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    let pair = other.private.strip_suffix("_priv").unwrap();
    for id in [&other.private, &other.public, pair, &pair.to_lowercase()] {
        let named = || vec![support::key::unique_identifier(id)];
        for operation in [operation::DESTROY, operation::ACTIVATE, operation::GET, operation::GET_ATTRIBUTES] {
            client.call(Item::new(operation, named())).is_refused(reason::ITEM_NOT_FOUND);
        }
        client.call(Client::rename_item(id, "zone-mine")).is_refused(reason::ITEM_NOT_FOUND);
        client
            .call(support::key::sign_item(id, support::key::ecdsa_sha_256(), b"data"))
            .is_refused(reason::ITEM_NOT_FOUND);
    }
    assert_eq!(token.objects().len(), 2);
}

/// Whether the bridge ended the handshake. In TLS 1.3 a client learns that when it reads.
fn is_turned_away(connected: io::Result<Client>) -> bool {
    connected.map_or(true, |mut client| client.is_cut_off())
}

/// Options of a bridge that asks clients for certificates.
fn asking(token: &Token, directory: &Scratch, auth: &str, ca: &Path, clients: &str) -> Options {
    let tls = format!("[server.tls]\nclient-auth = {auth:?}\nclient-ca = {ca:?}\n");
    let mut options = kept(token, directory, clients);
    options.tables.insert_str(0, &tls);
    options
}

#[test]
fn a_client_proves_itself_by_a_certificate() {
    let (token, directory, ca) = (Token::create(), Scratch::new("clients"), Ca::new());
    let pem = directory.file("ca.pem", &ca.pem);
    let by = |how: &str| format!("[[client]]\n{how}\ntoken = {:?}\n", token.label);
    let (pinned, key) = ca.certify("pinned", 7);
    let fingerprint: Vec<String> = ring::digest::digest(&ring::digest::SHA256, &pinned)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let clients = [
        by("subject = \"CN=one,O=Example\""),
        by("san = \"DNS:two.example\"\noperations = [\"locate\"]"),
        by(&format!("fingerprint = \"{}\"", fingerprint.join(":"))),
    ];
    let bridge = Bridge::start_with(&token, asking(&token, &directory, "optional", &pem, &clients.concat()));
    for identity in [ca.certify("one", 1), ca.certify("two", 2), (pinned, key)] {
        let mut client = Client::connect_showing(&bridge, None, Some(identity)).unwrap();
        client.call(locate()).payload();
    }
    let mut two = Client::connect_showing(&bridge, None, Some(ca.certify("two", 2))).unwrap();
    two.call(KeySpec::any(&token).item()).is_refused(reason::PERMISSION_DENIED);
    // Of the CA, but nobody the bridge knows; of another CA; without any.
    let mut three = Client::connect_showing(&bridge, None, Some(ca.certify("three", 3))).unwrap();
    three.call(locate()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    assert!(is_turned_away(Client::connect_showing(&bridge, None, Some(Ca::new().certify("one", 1)))));
    let mut none = Client::connect_as(&bridge, None);
    none.call(locate()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    // Who knows the PIN needs no certificate where it is optional.
    Client::connect(&bridge, &token).call(locate()).payload();
}

#[test]
fn who_has_no_certificate_is_not_spoken_to_where_it_is_required() {
    let (token, directory, ca) = (Token::create(), Scratch::new("clients"), Ca::new());
    let pem = directory.file("ca.pem", &ca.pem);
    let bridge = Bridge::start_with(&token, asking(&token, &directory, "required", &pem, ""));
    assert!(is_turned_away(Client::connect_showing(&bridge, Some((&token.label, &token.pin)), None)));
    let login = Some((token.label.as_str(), token.pin.as_str()));
    Client::connect_showing(&bridge, login, Some(ca.certify("one", 1))).unwrap().call(locate()).payload();
}

#[test]
fn hup_has_certificates_and_lists_of_revoked_ones_read_anew_and_keeps_the_old_where_the_new_are_bad() {
    let (token, directory, ca) = (Token::create(), Scratch::new("clients"), Ca::new());
    let pem = directory.file("ca.pem", &ca.pem);
    let crl = directory.file("crl.pem", ca.revoke(99));
    let mut options = asking(&token, &directory, "optional", &pem, &signer(&token, &directory, ""));
    options.tables = options.tables.replacen("client-ca", &format!("crl = {crl:?}\nclient-ca"), 1);
    let bridge = Bridge::start_with(&token, options);
    let login = Some((token.label.as_str(), token.pin.as_str()));
    let connect = || Client::connect_showing(&bridge, login, Some(ca.certify("one", 1)));
    let is_served = || connect().is_ok_and(|mut client| !client.is_cut_off_at(locate()));
    assert!(is_served());
    // Bad: what was is kept, with one line about it.
    fs::write(&crl, "nothing").unwrap();
    bridge.hang_up();
    assert!(is_served());
    assert_eq!(bridge.log().matches("ERROR").count(), 1);
    // Good: this client is revoked, others are not, and those that are connected stay.
    let mut connected = connect().unwrap();
    connected.call(locate()).payload();
    fs::write(&crl, ca.revoke(1)).unwrap();
    bridge.hang_up();
    assert!(!is_served());
    connected.call(locate()).payload();
    Client::connect(&bridge, &token).call(locate()).payload();
    // A new password counts at once, a missing file keeps the old one.
    private_file(&directory, "password", "another");
    bridge.hang_up();
    Client::connect_as(&bridge, Some(("signer", "another"))).call(locate()).payload();
    Client::connect_as(&bridge, Some(("signer", PASSWORD)))
        .call(locate())
        .is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    fs::remove_file(directory.path().join("password")).unwrap();
    bridge.hang_up();
    Client::connect_as(&bridge, Some(("signer", "another"))).call(locate()).payload();
}

/// The names that a client's keys begin with are judged as the token keeps them: a name that loses its beginning there would put the key
/// out of the client's reach for ever, or among another's.
#[test]
fn a_client_makes_and_names_no_key_that_the_token_would_keep_under_a_name_of_others() {
    for (limits, prefix, named) in [
        ("label-characters = \"plain\"", "zone_", "zone_1"),
        ("label-max = 4", "zone-", "zone-1"),
        // What the token makes of the label is known only once the pair is there.
        ("template = \"unlabelled\"", "zone-", "zone-1"),
    ] {
        let (token, directory) = (Token::create(), Scratch::new("clients"));
        let rights = signer(&token, &directory, &format!("key-prefix = {prefix:?}"));
        let bridge = Bridge::start_with(&token, kept(&token, &directory, &format!("{limits}\n{rights}")));
        let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
        client.call(KeySpec::any(&token).named(named).item()).is_refused(reason::PERMISSION_DENIED);
        assert_eq!(token.objects().len(), 0, "{limits}");
    }
}

#[test]
fn a_client_renames_no_key_to_what_the_token_would_keep_as_a_name_of_others() {
    let (token, directory) = (Token::create(), Scratch::new("clients"));
    let start = |limits: &str, prefix: &str| {
        let rights = signer(&token, &directory, &format!("key-prefix = {prefix:?}"));
        Bridge::start_with(&token, kept(&token, &directory, &format!("{limits}\n{rights}")))
    };
    let bridge = start("label-characters = \"plain\"", "zone-");
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    let pair = client.create_key_pair(&KeySpec::any(&token).named("zone-1"));
    // What the token keeps of it begins as it has to.
    client.call(Client::rename_item(&pair.private, "zone_2")).payload();
    drop(bridge);
    let bridge = start("label-max = 5", "zone-2");
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    client.call(Client::rename_item(&pair.private, "zone-2-other")).is_refused(reason::PERMISSION_DENIED);
    client.sign(&pair.private, token.sign_parameters(), b"data");
}
